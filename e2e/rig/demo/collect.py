"""The rig's run as a record: what the scorer, the report and the tests take, whatever world it came from."""

from __future__ import annotations

import bisect
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capstan.replay.pages import words
from capstan.replay.runs import Energy, Outcomes, Run, ServiceRun
from capstan.replay.scenario import Scenario
from rig.demo import outcomes, series, ticks
from rig.demo.play import Course

TAIL_S = 2.0  # the meter's row of the last second is written up to a second later

ENERGY_NOTE = (
    "joules by state",
    "those of idle and starting replicas stand under serving: the rig meters a service, not its states",
)


@dataclass(frozen=True, slots=True)
class Files:
    """What the simulator and the load driver wrote."""

    truth: Path
    outcomes: Path


@dataclass(frozen=True, slots=True)
class Collected:
    """A course as the run that is scored, and its ticks as they were joined."""

    run: Run
    ticks: tuple[ticks.Tick, ...]


def record(scenario: Scenario, course: Course, cast: ticks.Cast, *, system: str, files: Files) -> Collected:
    """Return the run of a course (DESIGN 7.1: from the first arrival to the last completion).

    Raises:
        ValueError: The simulator wrote no truth for the time of the run, or a request ended twice.
    """
    with files.truth.open() as lines:
        rows = ticks.rows(lines)
    told = files.outcomes.read_text().splitlines() if files.outcomes.exists() else []
    finished = outcomes.complete(scenario.services, told)
    end_s = _end_s(finished.values(), scenario.duration_s)
    span = _span(rows, course.start_s, course.start_s + end_s)
    joined = ticks.join(span, course.looks, course.start_s, cast)
    run = Run(
        system=system,
        source="rig",
        trace=scenario.trace,
        duration_s=end_s,
        services=services(scenario, finished, span, joined),
        domains=tuple(series.of_domain(joined, name) for name in _domains(joined)),
        marks=tuple(course.marks),
        settings=(*scenario.notes, ENERGY_NOTE),
        energy_unassigned_j=span[-1].unassigned_j - span[0].unassigned_j,
    )
    return Collected(run, joined)


def services(
    scenario: Scenario, finished: Mapping[str, Outcomes], span: Sequence[ticks.Row], joined: Sequence[ticks.Tick]
) -> tuple[ServiceRun, ...]:
    """Return each policy's requests, columns, and joules between the first and the last row."""
    made = []
    for service in scenario.services:
        policy = service.policy.key
        seen = series.of_service(joined, policy)
        made.append(
            ServiceRun(
                policy=policy,
                slo=service.policy.slo,
                profiles=(words.profile(service.profile(service.start.tp)),),
                outcomes=finished[policy],
                series=seen,
                energy=Energy(serving_j=_energy_j(span, policy), idle_j=0.0, transition_j=0.0),
                reconfigurations=series.changes(seen.replicas_desired * seen.tp),
                clock_changes=series.changes(seen.clock_cap_mhz),
                gpu_seconds=series.gpu_seconds(seen),
                priority=service.policy.priority,
            )
        )
    return tuple(made)


def write_ticks(joined: Sequence[ticks.Tick], path: Path) -> None:
    """Write one JSON line per tick."""
    with path.open("w") as out:
        for tick in joined:
            out.write(json.dumps(dataclasses.asdict(tick), separators=(",", ":")) + "\n")


def _domains(joined: Sequence[ticks.Tick]) -> list[str]:
    return sorted({domain.domain for tick in joined for domain in tick.domains})


def _end_s(finished: Iterable[Outcomes], duration_s: float) -> float:
    """Return the last completion; never before the trace's own end, so that both systems are scored over it."""
    times_s = np.concatenate([outcomes.finish_s for outcomes in finished])
    return float(np.nanmax(np.append(times_s, duration_s)))


def _span(rows: Sequence[ticks.Row], since_unix_s: float, until_unix_s: float) -> Sequence[ticks.Row]:
    """Return the rows of a span, with one row on either side: a row tells of the second before it."""
    times = [row.unix_s for row in rows]
    first = max(bisect.bisect_left(times, since_unix_s) - 1, 0)
    last = bisect.bisect_right(times, until_unix_s + TAIL_S)
    span = rows[first:last]
    if not span:
        raise ValueError("the simulator wrote no row of truth.jsonl during the run: its log says why")
    return span


def _energy_j(span: Sequence[ticks.Row], policy: str) -> float:
    known = [row.policies[policy].energy_j for row in span if policy in row.policies]
    return known[-1] - known[0] if known else 0.0
