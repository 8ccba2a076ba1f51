"""Builders of power domains and their samples: round numbers, so that a test's arithmetic fits in a comment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.powercap import readings
from capstan.powercap import step as machine
from capstan.powercap.domains import Domain, DomainMemory, NodeSample, Step, Timers

NODES = ("n1", "n2", "n3", "n4")
BUDGET_W = 10_000.0
GONE = Missing(Reason.NO_DATA)


def domain(**changes: Any) -> Domain:
    """An armed rack of four nodes with 10 kW, efficiency 1, no watts beside the GPUs and no spread of releases."""
    base = Domain(name="rack-1", budget_w=BUDGET_W, nodes=NODES, armed=True, timers=Timers(spread_ratio=0.0))
    return dataclasses.replace(base, **changes)


def sample(node: str, watts: float | Sample[float], *, worst_case_w: float = 3000.0) -> NodeSample:
    """One node of 8 GPUs; a bare number is fresh."""
    value = Fresh(watts, 0.2) if isinstance(watts, int | float) else watts
    return NodeSample(node, value, worst_case_w=worst_case_w, gpus=8, min_limit_w=100)


def drawing(ratio: float, *, of: Domain | None = None) -> tuple[NodeSample, ...]:
    """All nodes of a domain heard, together at `ratio` of its budget."""
    rack = of or domain()
    return tuple(sample(node, rack.budget_w * ratio / len(rack.nodes)) for node in rack.nodes)


def step(
    domain: Domain,
    samples: Sequence[NodeSample],
    memory: DomainMemory,
    now_s: float,
    *,
    meter: Sample[float] = machine.NO_METER,
    confirmed: bool = True,
) -> Step:
    """One tick on samples told node by node."""
    return machine.step(domain, readings.of(samples), memory, now_s, meter=meter, confirmed=confirmed)
