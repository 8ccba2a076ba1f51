"""The record's ticks: what the simulator knows to be true, joined with the last look at the API server.

Pure: rows and looks come in, ticks go out, so that the live view, the scorer and the tests see the same join.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.powercap.domains import Domain
from rig.demo.looks import DomainLook, Look, PolicyLook

RATE_WINDOW_S = 10.0  # arrivals are drawn as a mean over this: at a few a second, shorter ones are noise
_KNOWN_REASONS = {str(reason): reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class PolicyTick:
    """One policy at one moment. `gpus_w` sums its GPUs; `clock_cap_mhz` None means no cap."""

    policy: str
    arrival_rps: float
    replicas_desired: int
    replicas_ready: int
    replicas_starting: int
    replicas_draining: int
    tp: int
    clock_cap_mhz: float | None
    gpus_w: float
    running: int
    waiting: int
    reason: Reason
    expected_w: float | None = None


@dataclass(frozen=True, slots=True)
class DomainTick:
    """One power domain at one moment: `draw_w` is the true AC draw, `cap_mhz` the cap of low-priority GPUs."""

    domain: str
    draw_w: float
    budget_w: float
    level: str
    cap_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything at one moment, `t_s` seconds after the run began."""

    t_s: float
    policies: tuple[PolicyTick, ...]
    domains: tuple[DomainTick, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyTruth:
    """One policy in one row of `truth.jsonl`; watts are means over the row's second."""

    gpus_w: float
    energy_j: float
    ready: int
    starting: int
    draining: int
    running: int
    waiting: int
    clock_mhz: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `truth.jsonl`. `nodes_w` holds the largest 100 ms mean of each node's GPUs (DESIGN 7.2)."""

    unix_s: float
    nodes_w: Mapping[str, float]
    policies: Mapping[str, PolicyTruth]
    unassigned_j: float


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: domains and priorities never change in a run, and arrivals are known from the trace."""

    domains: tuple[Domain, ...]
    priorities: Mapping[str, Priority]
    arrivals_s: Mapping[str, Sequence[float]]


def rows(lines: Iterable[str]) -> list[Row]:
    """Return the rows of `truth.jsonl`; a last line that is still being written is left out."""
    return [_row(json.loads(line)) for line in lines if line.endswith("\n")]


def _row(row: Mapping[str, object]) -> Row:
    nodes: Mapping[str, Mapping[str, float]] = row["nodes"]  # type: ignore[assignment]  # the simulator's own file
    policies: Mapping[str, Mapping[str, float]] = row["policies"]  # type: ignore[assignment]  # see above
    fields = ("gpus_w", "energy_j", "ready", "starting", "draining", "running", "waiting", "clock_mhz")
    return Row(
        unix_s=float(str(row["t"])),
        nodes_w={name: node["gpus_w_max"] for name, node in nodes.items()},
        policies={key: PolicyTruth(*(seen[f] for f in fields)) for key, seen in policies.items()},  # type: ignore[arg-type]  # the simulator writes whole counts
        unassigned_j=float(str(row["unassigned_j"])),
    )


def join(truth: Sequence[Row], looks: Sequence[Look], start_unix_s: float, played: Cast) -> tuple[Tick, ...]:
    """Return a tick per row from the start on, each with the newest look that is not younger than the row."""
    times = [look.unix_s for look in looks]
    joined = []
    for row in truth:
        seen = bisect.bisect_right(times, row.unix_s)
        if row.unix_s >= start_unix_s and seen:
            joined.append(tick(row, looks[seen - 1], row.unix_s - start_unix_s, played))
    return tuple(joined)


def tick(row: Row, look: Look, t_s: float, played: Cast) -> Tick:
    """Return everything at one moment."""
    declared = {domain.name: domain for domain in played.domains}
    known = [d for d in look.domains if d.domain in declared]
    caps = {
        Priority.LOW: _tightest(d.low_cap_mhz for d in known),
        Priority.HIGH: _tightest(d.high_cap_mhz for d in known),
    }
    return Tick(
        t_s,
        tuple(_policy(p, row, t_s, played, caps) for p in look.policies if p.policy in played.priorities),
        tuple(_domain(d, declared[d.domain], row) for d in known),
    )


def _policy(look: PolicyLook, row: Row, t_s: float, played: Cast, caps: Mapping[Priority, float | None]) -> PolicyTick:
    true = row.policies.get(look.policy, PolicyTruth(0.0, 0.0, 0, 0, 0, 0, 0, None))
    return PolicyTick(
        policy=look.policy,
        arrival_rps=rate_rps(played.arrivals_s.get(look.policy, ()), t_s),
        replicas_desired=look.desired,
        replicas_ready=true.ready,
        replicas_starting=true.starting,
        replicas_draining=true.draining,
        tp=look.tp,
        clock_cap_mhz=_tightest((look.plan_cap_mhz, caps[played.priorities[look.policy]])),
        gpus_w=true.gpus_w,
        running=true.running,
        waiting=true.waiting,
        reason=_KNOWN_REASONS.get(look.reason, Reason.UNKNOWN),
        expected_w=look.expected_w,
    )


def _domain(look: DomainLook, declared: Domain, row: Row) -> DomainTick:
    """Return a domain's true AC draw: its GPUs and the rest of its nodes, behind the power supplies."""
    gpus_w = sum(row.nodes_w.get(node, 0.0) for node in declared.nodes)
    draw_w = (gpus_w + declared.non_gpu_typical_w * len(declared.nodes)) / declared.supply_efficiency_ratio
    return DomainTick(look.domain, draw_w, look.budget_w, look.level, look.low_cap_mhz)


def rate_rps(arrivals_s: Sequence[float], t_s: float) -> float:
    """Return arrivals per second over the window that ends at `t_s` (arrivals ascend)."""
    since_s = max(t_s - RATE_WINDOW_S, 0.0)
    count = bisect.bisect_right(arrivals_s, t_s) - bisect.bisect_right(arrivals_s, since_s)
    return count / max(t_s - since_s, 1.0)


def _tightest(caps: Iterable[float | None]) -> float | None:
    return min((cap for cap in caps if cap is not None), default=None)
