"""`report.json`: numbers with units, and never half a file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capstan.replay.pages import document, page, report, summary
from capstan.replay.runs import Energy, Run
from capstan.replay.scores import limits
from capstan.replay.scores.compare import Comparison, Conditions
from support import report as made

ISSUE_NAMES = {
    "requests", "completed", "slo_attainment_ratio", "ttft_s", "tpot_s", "tbt_s", "energy_j", "energy_idle_j",
    "energy_transition_j", "energy_unassigned_j", "energy_node_j", "slo_met", "slo_by_class", "slo_windows_ratio",
    "saving_ratio", "saving_over_best_static_ratio", "captured_ratio", "j_per_output_token", "gpu_seconds",
    "peak_power_w", "reconfigurations", "clock_changes", "captured_of_bound_ratio", "rate_multiple", "provisioning",
    "clock_response", "slo",
}  # fmt: skip
"""What others script against (issue 4, "CLI contract")."""


def written(comparison: Comparison) -> Any:
    """What a reader of the file gets."""
    return json.loads(json.dumps(document.of(comparison), allow_nan=False))


def test_the_json_has_every_name_that_others_script_against() -> None:
    conditions = Conditions("demo", limits.SloSet.CHAT, 2.5, "auto:12", "low", (("telemetry", "5 s"),))
    found = written(made.compared(made.run(), made.run(summary.BASELINE, scale=2.0), conditions=conditions))
    assert found["schema_version"] == document.SCHEMA_VERSION
    assert (found["scenario"], found["settings"]) == ("demo", {"telemetry": "5 s"})
    assert list(found["systems"]) == ["capstan", "single-pool"]
    for system in found["systems"].values():
        assert system.keys() >= ISSUE_NAMES
        assert set(system["ttft_s"]) == set(system["tpot_s"]) == set(system["tbt_s"]) == {"p50", "p90", "p99"}
        held = [system[name] for name in ("rate_multiple", "provisioning", "clock_response", "slo")]
        assert held == [2.5, "auto:12", "low", "chat"]


def test_the_json_carries_the_figures_of_the_run(pair: Comparison) -> None:
    capstan = written(pair)["systems"]["capstan"]
    assert (capstan["requests"], capstan["completed"], capstan["slo_attainment_ratio"]) == (1200, 1200, 1.0)
    # 1,150 kJ + 420 kJ: 80 % serving, 15 % idle, 5 % transition
    parts = [capstan[f"energy_{part}j"] for part in ("", "serving_", "idle_", "transition_", "unassigned_")]
    assert parts == pytest.approx([1_570_000, 1_256_000, 235_500, 78_500, 108_000])
    assert (capstan["saving_ratio"], capstan["saving_fleet_ratio"]) == pytest.approx((0.5, 1 - 1678 / 3248))
    assert (capstan["gpu_seconds"], capstan["reconfigurations"], capstan["clock_changes"]) == (4800, 24, 60)
    assert (capstan["energy_node_j"], capstan["captured_ratio"], capstan["note"]) == (None, None, None)
    chat = capstan["services"][0]
    assert (chat["policy"], chat["ttft_limit_s"], chat["profiles"]) == ("llm/chat", [2.0], [made.PROFILE])
    # ready replicas: the sum of the builder's wave over 240 s is not round; its bounds are
    assert 1.0 < chat["replicas_mean"] < 3.0


def test_the_bound_has_no_latency_and_every_request_good(many: Comparison) -> None:
    bound = written(many)["systems"]["bound"]
    assert bound["ttft_s"] == bound["tpot_s"] == bound["tbt_s"] == {"p50": None, "p90": None, "p99": None}
    assert (bound["slo_attainment_ratio"], bound["slo_met"], bound["energy_j"]) == (1.0, True, 6e5)
    absent = ("energy_unassigned_j", "gpu_seconds", "peak_power_w", "reconfigurations", "captured_ratio")
    assert [bound[name] for name in absent] == [None] * 5


def test_who_missed_the_slo_has_null_for_every_saving_and_says_why(many: Comparison) -> None:
    found = written(many)["systems"]["autoscaler-with-a-name-2"]
    names = [name for name in found if name.startswith(("saving", "captured"))]
    assert len(names) == 8
    assert [found[name] for name in names] == [None] * 8
    assert (found["note"], found["slo_met"]) == ("SLO missed", False)


def test_an_unknown_draw_is_a_gap_and_not_a_number() -> None:
    base = made.run()
    (rack,) = base.domains
    lost = np.where((rack.t_s >= 20) & (rack.t_s < 40), math.nan, rack.draw_w)
    domains = (dataclasses.replace(rack, draw_w=lost),)
    found = written(made.compared(dataclasses.replace(base, domains=domains, figures={"operator_rss_bytes": math.nan})))
    assert found["systems"]["capstan"]["domains"][0]["unknown_s"] == 20
    assert found["systems"]["capstan"]["figures"]["operator_rss_bytes"] is None
    assert not found["verdict"]["passed"]


def _nan_energy(run: Run) -> Run:
    broken = dataclasses.replace(run.services[0], energy=Energy(math.nan, 0.0, 0.0), gpu_seconds=math.inf)
    return dataclasses.replace(run, services=(broken,), energy_unassigned_j=math.nan, energy_node_j=math.nan)


@pytest.mark.parametrize("spoil", [_nan_energy, made.unserved], ids=["joules unknown", "nothing served"])
def test_nan_is_never_written(tmp_path: Path, spoil: Callable[[Run], Run]) -> None:
    report.write(made.compared(spoil(made.run())), tmp_path)
    text = (tmp_path / report.JSON_NAME).read_text(encoding="utf-8")
    assert json.loads(text)["systems"].keys() == {"capstan"}
    assert "NaN" not in text
    assert "Infinity" not in text


def test_every_name_of_the_json_is_in_the_reference(pair: Comparison, root: Path) -> None:
    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if not isinstance(value, dict):
            return set()
        free = {
            "systems",
            "settings",
            "figures",
            "slo_by_class",
            "class_mix",
            "request_energy_by_class",
            "state_ratio",
        }  # names of things
        below = [names(list(v.values()) if k in free else v) for k, v in value.items()]
        return set(value).union(*below)

    reference = (root / "docs" / "reference" / "report-json.md").read_text(encoding="utf-8")
    found = names(document.of(pair)) | names(document.of(made.compared(made.told_apart())))
    assert len(found) > 75
    assert [name for name in sorted(found) if f"`{name}`" not in reference] == []
    assert f"`schema_version`: {document.SCHEMA_VERSION}" in reference


def test_a_failed_write_leaves_the_old_report_whole(tmp_path: Path, pair: Comparison) -> None:
    (tmp_path / report.HTML_NAME).write_text("old")
    (tmp_path / report.JSON_NAME).mkdir()  # the rename onto a folder fails
    with pytest.raises(OSError, match=r"report\.json"):
        report.write(pair, tmp_path)
    assert (tmp_path / report.HTML_NAME).read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [report.HTML_NAME, report.JSON_NAME]


def test_a_folder_is_tried_before_anything_is_played(tmp_path: Path) -> None:
    report.prepare(tmp_path / "deep" / "out")
    assert list((tmp_path / "deep" / "out").iterdir()) == []
    with pytest.raises(OSError, match="nowhere"):
        report.prepare(Path("/proc/nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        report.prepare(tmp_path / "file")


def test_a_page_that_cannot_be_drawn_leaves_no_new_numbers(
    tmp_path: Path, pair: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Comparison) -> str:
        raise ValueError("no page")

    (tmp_path / report.JSON_NAME).write_text("old")
    monkeypatch.setattr(page, "of", broken)
    with pytest.raises(ValueError, match="no page"):
        report.write(pair, tmp_path)
    assert (tmp_path / report.JSON_NAME).read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [report.JSON_NAME]
