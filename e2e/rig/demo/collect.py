"""The rig's run as a record: what the scorer, the report and the tests take, whatever world it came from."""

from __future__ import annotations

import bisect
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.model.profile import Profile
from capstan.replay.record import Outcome, Run, ServiceRun, Tick
from capstan.replay.scenario import Scenario
from rig.demo import outcomes, ticks
from rig.demo.play import Course

TAIL_S = 2.0  # the meter's row of the last second is written up to a second later


@dataclass(frozen=True, slots=True)
class Files:
    """What the simulator and the load driver wrote."""

    truth: Path
    outcomes: Path


def record(scenario: Scenario, course: Course, cast: ticks.Cast, *, system: str, files: Files) -> Run:
    """Return the run of a course (DESIGN 7.1: from the first arrival to the last completion).

    Raises:
        ValueError: The simulator wrote no truth for the time of the run.
    """
    with files.truth.open() as lines:
        rows = ticks.rows(lines)
    told = files.outcomes.read_text().splitlines() if files.outcomes.exists() else []
    finished = outcomes.complete(scenario.services, told)
    end_s = _end_s(finished, scenario.duration_s)
    span = _span(rows, course.start_s, course.start_s + end_s)
    joined = ticks.join(span, course.looks, course.start_s, cast)
    return Run(
        system=system,
        source="rig",
        trace=scenario.trace,
        duration_s=end_s,
        services=services(scenario, span),
        outcomes=finished,
        ticks=joined,
        marks=tuple(course.marks),
        settings=scenario.notes,
        energy_unassigned_j=span[-1].unassigned_j - span[0].unassigned_j,
    )


def services(scenario: Scenario, span: Sequence[ticks.Row]) -> tuple[ServiceRun, ...]:
    """Return each policy's limits and its joules between the first and the last row."""
    return tuple(
        ServiceRun(s.policy.key, s.policy.slo, _energy_j(span, s.policy.key), told_profile(s.profile))
        for s in scenario.services
    )


def told_profile(profile: Profile) -> str:
    """Return a profile with its fit error, as every figure names it."""
    error = profile.fit_error_ratio
    return f"{profile.name} ({'not fitted' if error is None else f'fit error {100 * error:.1f} %'})"


def labelled(run: Run, scenario: Scenario) -> Run:
    """Return a run of virtual time with its profiles named as `told_profile` does."""
    told = {s.policy.key: told_profile(s.profile) for s in scenario.services}
    return dataclasses.replace(
        run, services=tuple(dataclasses.replace(s, profile=told[s.policy]) for s in run.services)
    )


def write_ticks(joined: Sequence[Tick], path: Path) -> None:
    """Write one JSON line per tick."""
    with path.open("w") as out:
        for tick in joined:
            out.write(json.dumps(dataclasses.asdict(tick), separators=(",", ":")) + "\n")


def _end_s(finished: Sequence[Outcome], duration_s: float) -> float:
    """Return the last completion; never before the trace's own end, so that both systems are scored over it."""
    return max([duration_s, *(o.finish_s for o in finished if o.finish_s is not None)])


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
