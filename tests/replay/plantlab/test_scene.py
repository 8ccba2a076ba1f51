"""Reading a scenario file with a `Plant`: what is shipped, and one clear error for what cannot be played."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.api import errors
from capstan.replay.plantlab import scene
from support import plants


def test_the_shipped_scenario_is_a_row_of_two_racks() -> None:
    found = plants.whole()
    assert [domain.name for domain in found.domains] == ["row-1", "rack-a", "rack-b"]
    assert len(found.servers) == 40
    assert sum(found.highs) == 20
    assert all(server.domains[1] == "row-1" for server in found.servers)


def test_high_priority_is_spread_over_both_racks() -> None:
    highs = plants.whole().highs
    assert sum(highs[:20]) == sum(highs[20:]) == 10


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param("kind: Plant\n", "kind: Plan\n", "'Plan' is not known", id="no such kind"),
        pytest.param("-tp8\n", "-tp9\n", "there is no ServingProfile", id="no such profile"),
        pytest.param("-h100-sxm5-80gb-tp8\n", "-h100-sxm5-80gb-tp4\n", "each server is one replica", id="another tp"),
        pytest.param("  parentName: row-1\n", "", "exactly one root", id="three roots"),
        pytest.param("matchLabels: {rack: b}", "matchLabels: {rack: a}", "exactly one of its racks", id="a rack twice"),
        pytest.param("nonGPUFullWatts: 3988", "nonGPUFullWatts: 4600", "worstCase of 4000 W", id="more than the worst"),
        pytest.param("nonGPUIdleWatts: 2032", "nonGPUIdleWatts: 3999", "lower it", id="idle above full"),
        pytest.param("[[0, 85], [10, 90]", "[[10, 90], [15, 90]", "loads ascend from 0", id="no efficiency at 0"),
        pytest.param('beforePerSecond: "1"', 'beforePerSecond: "0"', "a rate above 0", id="no load before a cut"),
        pytest.param('beforePerSecond: "1"', 'beforePerSecond: "13"', "at most perSecond", id="less load than before"),
        pytest.param("BeforeMilliseconds: 1000", "BeforeMilliseconds: 40000", "less than atSeconds", id="full at once"),
        pytest.param("name: lag,", "name: lost,", "two have one name", id="a name twice"),
    ],
)
def test_what_cannot_be_played_is_refused_by_field_and_fix(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = plants.SCENARIO.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "bad.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(errors.Invalid, match=words):
        scene.read(path, plants.PROFILES)
