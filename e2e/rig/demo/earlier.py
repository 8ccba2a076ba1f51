"""Earlier, like cycles of the demo's load, for a Prometheus that has lived through none: what a forecast learns from.

Who calls it: `rigged`, before Prometheus starts and at the end, where `--earlier` asks for it, and `command`, which
has the same in virtual time. A cycle of the demo is a day of the operator's calendar, and its periods are short beside
it: only then is there a before and an after the peak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from capstan import decide
from capstan.forecast import calendar
from capstan.journal import record
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.replay.runs import Requests, Run
from capstan.replay.scenario import Scenario
from capstan.serving import objects
from rig import past

SCRAPE_S = 5.0  # coarser than the rig's own 2 s: a step of 30 s needs two samples, and the file stays small
LEAD_S = 60.0  # from here to the load, measured: nodes, chart, controllers and pods 25 s, then a quiet span

SLOT_S = 15.0  # three scrapes; a fourteenth of the shipped cycle of 210 s
EPOCH_S = 60.0  # several start-ups of 12 s; an epoch of 180 s would hold the peak of the cycle at nearly any moment
REACHED_RATIO = 0.9  # of the highest rate: where the load counts as there


def settings(scenario: Scenario) -> decide.Settings:
    """Return the periods under which a forecast shows within one cycle, and the calendar of which it is a day."""
    return dataclasses.replace(
        scenario.settings,
        cluster_period_s=EPOCH_S,
        pool_period_s=SLOT_S,
        calendar=calendar.near(SLOT_S, day_s=scenario.duration_s),
    )


def remembered(scenario: Scenario, times: int) -> Scenario:
    """Return the scenario for an operator that has seen `times` earlier, like cycles, under the periods of one.

    The twin in virtual time of what `load` gives Prometheus.
    """

    def cycles(each: Requests) -> Requests:
        span_s = scenario.duration_s
        arrivals_s = past.repeated(each.arrival_s.tolist(), start_s=times * span_s, cycle_s=span_s, times=times)
        return Requests(np.array(arrivals_s), np.tile(each.prompt_tokens, times), np.tile(each.output_tokens, times))

    services = scenario.services
    if times:
        services = tuple(dataclasses.replace(each, history=cycles(each.requests)) for each in services)
    return dataclasses.replace(scenario, services=services, settings=settings(scenario))


def told_of(run: Run, scenario: Scenario) -> list[str]:
    """Return what `told` does, of a run in virtual time: its rates are those of the trace."""
    window_s = scenario.settings.rate_window_s
    loads: list[tuple[float, str, float]] = []
    asks: list[tuple[float, str, int]] = []
    for service, served in zip(scenario.services, run.services, strict=True):
        key, arrival_s, series = service.policy.key, service.requests.arrival_s, served.series
        counts = np.searchsorted(arrival_s, series.t_s, "right") - np.searchsorted(
            arrival_s, series.t_s - window_s, "right"
        )
        loads += [(t_s, key, count / window_s) for t_s, count in zip(series.t_s.tolist(), counts.tolist(), strict=True)]
        rows = zip(series.t_s.tolist(), series.replicas_desired.tolist(), series.reason.tolist(), strict=True)
        asks += [(t_s, key, count) for t_s, count, reason in rows if reason != Reason.REQUESTS_WAITING]
    return _sentences(loads, asks)


def told(cycles: Iterable[record.Recorded]) -> list[str]:
    """Return a sentence per policy: how long before its load's peak the last replica for it was asked for.

    Replicas asked for because requests waited were not foreseen, and do not count.
    """
    loads: list[tuple[float, str, float]] = []
    asks: list[tuple[float, str, int]] = []
    for cycle in cycles:
        for decided in cycle.decided:
            seen, at_s = cycle.observed.of(decided.policy), cycle.observed.now_s
            if seen is not None and isinstance(seen.arrival_rps, Fresh):
                loads.append((at_s, decided.policy, seen.arrival_rps.value))
            if decided.replicas_reason is not Reason.REQUESTS_WAITING:
                asks.append((at_s, decided.policy, sum(pool.replicas for pool in decided.pools)))
    return _sentences(loads, asks)


def _sentences(loads: list[tuple[float, str, float]], asks: list[tuple[float, str, int]]) -> list[str]:
    """Return a sentence per policy from `(moment, policy, rate)` and `(moment, policy, replicas)`, in order."""
    highest: dict[str, float] = {}
    most: dict[str, int] = {}
    for _, policy, rps in loads:
        highest[policy] = max(highest.get(policy, 0.0), rps)
    for _, policy, count in asks:
        most[policy] = max(most.get(policy, 0), count)
    lines = []
    for policy in sorted(highest.keys() & most.keys()):
        peak_s = next(at_s for at_s, key, rps in loads if key == policy and rps >= REACHED_RATIO * highest[policy])
        asked_s = next(at_s for at_s, key, count in asks if key == policy and count == most[policy])
        word = "before" if asked_s <= peak_s else "after"
        lines.append(f"{policy}: {most[policy]} replicas asked for {abs(peak_s - asked_s):.0f} s {word} its peak load")
    return lines


def engines(scenario: Scenario, *, start_s: float, times: int) -> list[past.Earlier]:
    """Return one engine per service, which served all of its requests in each of `times` cycles before `start_s`."""
    found = []
    for service in scenario.services:
        namespace, _, name = service.policy.key.partition("/")
        arrivals_s = past.repeated(
            service.requests.arrival_s.tolist(), start_s=start_s, cycle_s=scenario.duration_s, times=times
        )
        found.append(past.Earlier(namespace, objects.workload_name(name, service.start.tp), name, arrivals_s))
    return found


def load(scenario: Scenario, promtool: Path, data: Path, *, now_s: float, times: int) -> None:
    """Give Prometheus' data folder `times` cycles, the last of which ends when the demo's own load is due to begin.

    What would lie after `now_s` is left out: Prometheus scrapes that itself.

    Raises:
        rig.past.PastError: Promtool refused it.
    """
    start_s = now_s + LEAD_S
    made = engines(scenario, start_s=start_s, times=times)
    since_s = start_s - times * scenario.duration_s
    past.load(promtool, past.exposition(made, since_s=since_s, until_s=now_s, scrape_s=SCRAPE_S), data)
