"""What happens in a run, from the events of a scenario file, and in words for the report.

Who calls it: `replay.load`, and `replay.engine` for the words. Must not know: who decides what about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

from capstan.api import errors, events
from capstan.api import scenario as files
from capstan.powercap.domains import Domain
from capstan.replay.nodes import Node
from capstan.replay.runs import Mark
from capstan.replay.scenario import BudgetCut, Burst, NodeLoss, Scenario

E = TypeVar("E", events.BudgetCut, events.NodeLost, events.RateBurst)


def cuts(run: files.Run, domains: tuple[Domain, ...]) -> tuple[BudgetCut, ...]:
    """Return the budget cuts.

    Raises:
        Invalid: There is no such domain.
    """
    known = [domain.name for domain in domains]
    found = []
    for i, event in _of(run, events.BudgetCut):
        if event.domain not in known:
            fix = f"there is no PowerDomain {event.domain} in the file; use one of {', '.join(known) or 'none'}"
            raise errors.Invalid(f"events[{i}].domain", fix)
        found.append(BudgetCut(float(event.at_seconds), event.domain, float(event.budget_watts)))
    return tuple(found)


def losses(run: files.Run, nodes: tuple[Node, ...]) -> tuple[NodeLoss, ...]:
    """Return the nodes that are lost, in order of time.

    Raises:
        Invalid: There is no such node, or it is lost while it is away.
    """
    known = [node.name for node in nodes]
    found: list[NodeLoss] = []
    for i, event in sorted(_of(run, events.NodeLost), key=lambda each: each[1].at_seconds):
        if event.node not in known:
            fix = f"there is no node {event.node} in the fleet; they are {known[0]} to {known[-1]}"
            raise errors.Invalid(f"events[{i}].node", fix)
        at_s = float(event.at_seconds)
        if any(loss.node == event.node and at_s < loss.back_s for loss in found):
            raise errors.Invalid(f"events[{i}].node", f"{event.node} is away already; name another, or a later time")
        back_s = math.inf if event.for_seconds is None else at_s + event.for_seconds
        found.append(NodeLoss(at_s, event.node, back_s))
    return tuple(found)


def bursts(run: files.Run) -> tuple[Burst, ...]:
    """Return the bursts of requests."""
    return tuple(
        Burst(
            t_s=float(event.at_seconds),
            end_s=float(event.at_seconds + event.for_seconds + event.ramp_seconds),
            policy=event.policy,
            factor_ratio=float(event.factor),
        )
        for _, event in _of(run, events.RateBurst)
    )


def marks(scenario: Scenario) -> tuple[Mark, ...]:
    """Return what a reader of the plots should see of losses and bursts; budget cuts mark themselves."""
    found = []
    for loss in scenario.losses:
        found.append(Mark(loss.t_s, f"{loss.node} is lost"))
        if loss.back_s < scenario.duration_s:
            found.append(Mark(loss.back_s, f"{loss.node} is back"))
    found += [
        Mark(burst.t_s, f"{burst.policy}: {burst.factor_ratio:g} times the requests") for burst in scenario.bursts
    ]
    return tuple(found)


def _of(run: files.Run, kind: type[E]) -> Iterator[tuple[int, E]]:
    """Yield the events of a kind with their places in the file."""
    for i, event in enumerate(run.events):
        if isinstance(event, kind):
            yield i, event
