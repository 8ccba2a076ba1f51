"""The Row document: what is wrong in it is said with its field and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.api import errors
from capstan.replay.options import Options
from capstan.replay.row import load
from support import rows


@pytest.fixture(scope="module")
def scenario(root: Path) -> str:
    return (root / "policies" / "scenarios" / "polca-row.yaml").read_text()


def read(folder: Path, text: str, wanted: Options = Options()) -> load.Loaded:  # noqa: B008 - a frozen record
    path = folder / "row.yaml"
    path.write_text(text)
    return load.read(path, rows.PROFILES, wanted)


def test_the_shipped_scenario_is_read_as_it_is_written(tmp_path: Path, scenario: str) -> None:
    loaded = read(tmp_path, scenario, Options(servers=(40, 52), seeds=(1, 2)))
    assert (loaded.asked.built, loaded.asked.budget_w, loaded.asked.peak_ratio) == (40, 260_000, 0.79)
    assert [(seed, servers) for _, seed, servers in loaded.worlds] == [(1, 40), (1, 52), (2, 40), (2, 52)]


@pytest.mark.parametrize(
    ("before", "after", "field", "fix"),
    [
        ("servers: 40", "servers: 1", "servers", "greater than or equal to 2"),
        ("servers: 40", "servers: many", "servers", "must be a whole number"),
        ("morePercents: [0, 10, 20, 25, 30, 33, 35, 40, 50]", "morePercents: [30, 10]", "morePercents", "ascending"),
        ("morePercents: [0, 10, 20, 25, 30, 33, 35, 40, 50]", "morePercents: []", "morePercents", "at least 1"),
        ("peakPercent: 79", "peakPercent: -3", "peakPercent", "greater than"),
        ("idlePercent: 20", "idlePercent: 70", "decodePercent", "a GPU draws more decoding than idle"),
        ("followsPercent: 60", "followsPercent: 55", "gpuSharePercents", "no share may be above followsPercent"),
        ("weeks: {derived: 1, scored: 1}", "weeks: {derived: 0, scored: 1}", "weeks.derived", "greater than"),
        ("name: polca-row", "name: polca-row\ncolour: red", "colour", "remove"),
        ("profile: bloom-a100-80gb-tp8", "profile: bloom-b200", "profile", "name one of its ServingProfiles"),
        ("budgetWatts: 260000", "budgetWatts: 0", "budgetWatts", "greater than"),
        ("lowPercent: 80", "lowPercent: 95", "thresholds", "lowPercent"),
        ("seed: 1", "seed: 1", "systems", "use some of no-cap"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_named(tmp_path: Path, scenario: str, before: str, after: str, field: str, fix: str) -> None:
    text = scenario + "systems: [polca-2]\n" if field == "systems" else scenario.replace(before, after)
    assert text != scenario
    with pytest.raises(errors.Invalid) as refused:
        read(tmp_path, text)
    assert field in str(refused.value)
    assert fix in str(refused.value)


@pytest.mark.parametrize("kind", ["PowerDomain", "Row"])
def test_one_domain_and_one_row_are_needed(tmp_path: Path, scenario: str, kind: str) -> None:
    kept = [part for part in scenario.split("---") if f"kind: {kind}\n" not in part]
    with pytest.raises(errors.Invalid, match=f"holds 0 {kind} documents; write exactly one"):
        read(tmp_path, "---".join(kept))
