"""The oracle's saving at DynamoLLM's three steady loads, in the shipped conversation scenario cut to one server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from capstan.replay import load, published, queueing, stage
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits
from capstan.replay.searches import fluid, steady_check
from capstan.replay.searches.trial import Evaluate
from rig.crosscheck.load import ROOT, conversation_hour
from rig.crosscheck.venvs import NotAvailable

SCENARIO = ROOT / "policies" / "scenarios" / "conversation-hour.yaml"
SLO = limits.SloSet.CLASS


def one_server() -> Scenario:
    """Return the conversation hour on one server of eight GPUs, aimed at the `class` SLO set's percentile."""
    return load.read(SCENARIO, Options()).scenario(servers=1)


def lengths() -> tuple[queueing.Lengths, str]:
    """Return pairs of the shared trace, or lengths of its published quantiles, and which of the two."""
    try:
        requests = conversation_hour()
    except NotAvailable:
        return queueing.drawn(published.CONVERSATION), "published quantiles of the conversation trace"
    return (requests.prompt_tokens, requests.output_tokens), "pairs of the shared conversation trace"


def world_of(scenario: Scenario) -> Callable[[Requests], Evaluate]:
    """Return what makes an `Evaluate` of a trace: this scenario's only service with these requests instead."""

    def world(requests: Requests) -> Evaluate:
        service = dataclasses.replace(scenario.services[0], requests=requests)
        alone = dataclasses.replace(scenario, services=(service,), duration_s=float(requests.arrival_s[-1]))
        return stage.Stage(alone, SLO).evaluate(alone, instant=True)

    return world


def lines(*, runs: int | None = None) -> tuple[tuple[steady_check.Line, ...], str]:
    """Return the check's lines, and where the lengths are from.

    Args:
        runs: World runs of each oracle's search; default by the trace's size.
    """
    scenario, (pairs, source) = one_server(), lengths()
    service = scenario.services[0]
    model = fluid.Model(scenario.truths[0], service.policy.slo, service.policy.bounds, service.most_gpus)
    return steady_check.check(world_of(scenario), model, pairs, runs=runs), source
