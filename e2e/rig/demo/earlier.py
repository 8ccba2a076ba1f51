"""Earlier, like cycles of the demo's load, for a Prometheus that has lived through none: what a forecast learns from.

Who calls it: `rigged`, before Prometheus starts, where `--earlier` asks for it.
"""

from __future__ import annotations

from pathlib import Path

from capstan.replay.scenario import Scenario
from capstan.serving import objects
from rig import past

SCRAPE_S = 5.0  # coarser than the rig's own 2 s: a step of 30 s needs two samples, and the file stays small
LEAD_S = 60.0  # from here to the load, measured: nodes, chart, controllers and pods 25 s, then a quiet span


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
