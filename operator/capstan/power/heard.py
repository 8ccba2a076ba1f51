"""What the agents said last, and what a domain may count on: samples for the machine, silent nodes at their worst.

Who calls it: `cycle`. A node that was never heard counts as the largest one of its domain; a domain none of whose
nodes was ever heard has no samples, which is blind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan.model.reasons import Reason
from capstan.model.sample import Missing, Sample, graded
from capstan.power.ports import AgentReport, GpuReport
from capstan.powercap import readings
from capstan.powercap.domains import NodeSample, Timers

STALE_S = Timers().stale_s


@dataclass(frozen=True, slots=True)
class _Last:
    report: AgentReport
    at_s: float


class Heard:
    """The last report of every node, with the monotonic time at which it came."""

    def __init__(self) -> None:
        self._last: dict[str, _Last] = {}

    def take(self, reports: Mapping[str, AgentReport], now_s: float) -> None:
        """Keep the newest reports."""
        self._last.update({node: _Last(report, now_s) for node, report in reports.items()})

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget nodes that are gone."""
        left = frozenset(nodes)
        self._last = {node: last for node, last in self._last.items() if node in left}

    def whole(self, nodes: tuple[str, ...]) -> bool:
        """Return whether every one of some nodes was heard once."""
        return bool(nodes) and all(node in self._last for node in nodes)

    def fresh(self, nodes: Iterable[str], now_s: float) -> int:
        """Count the nodes that answered lately."""
        return sum(1 for node in nodes if node in self._last and now_s - self._last[node].at_s <= STALE_S)

    def gpus(self, node: str) -> tuple[GpuReport, ...]:
        """Return the GPUs of a node as reported last."""
        return self._last[node].report.gpus if node in self._last else ()

    def reports(self, nodes: Iterable[str]) -> Mapping[str, AgentReport]:
        """Return the last report of every node that was heard."""
        return {node: self._last[node].report for node in nodes if node in self._last}

    def unreadable(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Return what agents say of GPUs that cannot be read, set or believed."""
        found = self.reports(nodes)
        return tuple(f"{node}: {problem}" for node, report in found.items() for problem in report.problems)

    def oldest_s(self, nodes: Iterable[str], now_s: float) -> float | None:
        """Return the age of the oldest sample of nodes that were heard; None where none was."""
        ages = (now_s - self._last[n].at_s + self._last[n].report.age_s for n in nodes if n in self._last)
        return max(ages, default=None)

    def samples(self, nodes: tuple[str, ...], now_s: float) -> readings.Samples:
        """Return one row per node, those never heard included; none at all where no node was ever heard."""
        known = {node: _sample(self._last[node], now_s) for node in nodes if node in self._last}
        if not known:
            return readings.of(())
        largest = max(known.values(), key=lambda sample: sample.worst_case_w)
        return readings.of([known[node] if node in known else _stranger(node, largest) for node in nodes])


def _sample(last: _Last, now_s: float) -> NodeSample:
    report = last.report
    watts: Sample[float] = Missing(Reason.NO_DATA)
    if report.gpus:
        watts = graded(report.gpus_w, now_s - last.at_s + report.age_s, limit_s=STALE_S)
    return NodeSample(
        node=report.node,
        gpus_w=watts,
        worst_case_w=sum(gpu.max_power_w for gpu in report.gpus),
        gpus=max(len(report.gpus), 1),
        min_limit_w=max((gpu.min_power_w for gpu in report.gpus), default=0.0),
    )


def _stranger(node: str, like: NodeSample) -> NodeSample:
    return NodeSample(node, Missing(Reason.NO_DATA), like.worst_case_w, like.gpus, like.min_limit_w)
