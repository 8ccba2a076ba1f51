"""The demo on the rig, from the first process to the record: set up, play, take down, collect, measure."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capstan.forecast.calendar import DAY_S
from capstan.journal import record
from capstan.replay import provision
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from rig import binaries, prometheus
from rig.demo import audit, board, collect, earlier, figures, manifests, parity, probe, stage
from rig.demo.play import Course, Play
from rig.demo.stage import ROOT, Stage
from rig.demo.view import Screen

LEFT_BY_A_RUN = ("decisions.jsonl", "figures.json", "outcomes.jsonl", "ticks.jsonl")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the demo is to run; `file` holds the scenario's manifests, `earlier` counts cycles before the load."""

    scenario: Scenario
    file: Path
    out: Path
    off: bool = False
    kill: bool = False
    earlier: int = 0


def run(wanted: Wanted, found: Mapping[str, binaries.Binary], screen: Screen, *, began_s: float) -> Run:
    """Run the scenario on the rig and return its record; everything is stopped again, whatever happens.

    Args:
        wanted: What to run.
        found: The programs.
        screen: Where it is told.
        began_s: Unix time at which the person asked for it: the figures count from there.

    Raises:
        process.ChildError, RuntimeError: A part ended or did not come up; the logs are under `wanted.out`.
    """
    for name in LEFT_BY_A_RUN:  # what an earlier run left would be appended to, or taken for this one's
        (wanted.out / name).unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="capstan-demo-"))  # short: Unix sockets below it have 107 bytes
    set_up = None
    try:
        set_up = stage.open_stage(folder, wanted.out, screen.say, found)
        play = Play(set_up, wanted.scenario, screen, off=wanted.off, kill=wanted.kill)
        _set_up(set_up, wanted)
        course = play.run()
        measured, notes = ({}, {}) if wanted.off else _measure(set_up, course, began_s)
        if wanted.earlier and not wanted.off:
            _foreseen(set_up)
        return _record(wanted, play, course, measured, notes)
    finally:
        stage.close(folder, set_up, wanted.out)


def _set_up(set_up: Stage, wanted: Wanted) -> None:
    """Bring up everything that the load needs, and wait until the pods are Ready."""
    scenario = wanted.scenario
    set_up.crds()
    set_up.nodes(scenario.nodes)
    if wanted.earlier:
        _remember(set_up, wanted)
    set_up.simulator()
    found = manifests.documents(wanted.file)
    if wanted.off:
        counts = provision.mean_load_replicas(scenario)
        tps = {s.policy.key: s.start.tp for s in scenario.services}
        set_up.apply(manifests.profiles(stage.PROFILES), "profiles.yaml")
        set_up.apply(manifests.without_capstan(found, counts, tps), "objects.yaml")
        ready = dict(counts)
    else:
        set_up.chart()
        set_up.agents(scenario.nodes)
        periods = earlier.settings(scenario) if wanted.earlier else scenario.settings
        set_up.start_controllers(
            f"{periods.cluster_period_s:g},{periods.pool_period_s:g},{periods.instance_period_s:g}",
            rate_window_s=periods.rate_window_s,
            day_s=scenario.duration_s if wanted.earlier else DAY_S,
        )
        startup_s = scenario.startup_s if wanted.earlier else None
        set_up.apply(manifests.profiles(stage.PROFILES, startup_s=startup_s), "profiles.yaml")
        set_up.apply(found, "objects.yaml")
        ready = {s.policy.key: s.start.replicas for s in scenario.services}
    set_up.say(f"  waiting for {', '.join(f'{n} x {p}' for p, n in ready.items())} to come Ready …")
    set_up.wait(lambda: set_up.pods_ready(ready), "engine pods Ready", stage.READY_S)


def _remember(set_up: Stage, wanted: Wanted) -> None:
    """Give Prometheus a past before it starts."""
    promtool = binaries.find(["promtool"])["promtool"]
    data = prometheus.data_folder(set_up.control.supervisor.folder)
    earlier.load(wanted.scenario, promtool.path, data, now_s=time.time(), times=wanted.earlier)
    set_up.say(f"  $ promtool tsdb create-blocks-from openmetrics …   ({wanted.earlier} earlier, like cycles)")


def _foreseen(set_up: Stage) -> None:
    """Say how long before each peak its replicas were asked for."""
    with (set_up.out / "decisions.jsonl").open(encoding="utf-8") as lines:
        cycles = [found for found in record.read(lines) if isinstance(found, record.Recorded)]
    for line in earlier.told(cycles):
        set_up.say(f"  {line}")


def _record(
    wanted: Wanted, play: Play, course: Course, measured: Mapping[str, float | None], notes: Mapping[str, str]
) -> Run:
    """Collect the record, and leave its parts in the output folder."""
    system = "fixed" if wanted.off else "capstan"
    files = collect.Files(play.truth_file, play.outcomes_file)
    collected = collect.record(wanted.scenario, course, play.cast, system=system, files=files)
    collect.write_ticks(collected.ticks, wanted.out / "ticks.jsonl")
    if not wanted.off:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        figures.write(wanted.out / "figures.json", measured, notes, root=ROOT, at=at)
    return dataclasses.replace(collected.run, figures={name: v for name, v in measured.items() if v is not None})


def _measure(set_up: Stage, course: Course, began_s: float) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the figures of this run, and a note for each that could not be measured."""
    writes = probe.writes(set_up)
    first_s = audit.first_plan_s(writes)
    silent = board.silent(ROOT, set_up.prometheus_url)
    for expr in silent:
        set_up.say(f"  the dashboard's query has no series: {expr}")
    measured = {
        "dashboard_queries": float(len(board.expressions(ROOT))),
        "dashboard_queries_with_series": float(len(board.expressions(ROOT)) - len(silent)),
        "start_to_first_plan_s": None if first_s is None else first_s - began_s,
        "operator_peak_rss_mib": course.operator.peak_rss_bytes / 2**20 or None,
        "operator_cpu_cores": course.operator.cpu_s / course.operator_wall_s if course.operator_wall_s else None,
        "quiet_writes_per_minute": _quiet_rate(writes, course),
        "spec_change_to_scale_s": figures.quantile(course.spec_changes_s, 0.99),
        **parity.figures(set_up.out / "decisions.jsonl", set_up.say),
        "demo_s": time.time() - began_s,
    }
    notes = {name: NOT_SEEN[name] for name, value in measured.items() if value is None and name in NOT_SEEN}
    if course.quiet is not None and (seen := audit.quiet_writes(writes, *course.quiet)):
        notes["quiet_writes_per_minute"] = ", ".join(f"{w.verb} {w.resource} {w.key}" for w in seen)
    return measured, notes


NOT_SEEN = {
    "start_to_first_plan_s": "the operator wrote neither replicas nor a clock plan",
    "quiet_writes_per_minute": "the run ended before the quiet span",
    "spec_change_to_scale_s": "no scale write followed the spec change in time",
    parity.DIFFERING: "the record of decisions could not be read",
}


def _quiet_rate(writes: list[audit.Write], course: Course) -> float | None:
    if course.quiet is None:
        return None
    since_s, until_s = course.quiet
    return 60 * len(audit.quiet_writes(writes, since_s, until_s)) / (until_s - since_s)
