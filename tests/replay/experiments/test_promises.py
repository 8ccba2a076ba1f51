"""What plans promise: for each pool what the decision expects of all, held from when it stood until it changed."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from capstan import decide
from capstan.model import plan
from capstan.model.plan import Decision, Effect, Fleet, Memory
from capstan.model.policy import Bounds, Knob, Pools
from capstan.replay import engine
from capstan.replay.experiments.promises import Promise, Watched, stands_as
from capstan.replay.runs import Requests, Run
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Seen
from capstan.replay.systems import Capstan
from support import builders, small
from support.planned import columns
from support.replay import poisson

ONE, SPLIT, APART = Pools(), Pools(by_class=True, count=2), Pools(phases_apart=True)


@functools.cache
def requests() -> Requests:
    """Half a minute of 3 a second, then two minutes of 14: more than a replica of 4 GPUs serves."""
    quiet = small.requests(90, 3.0)
    busy = columns(poisson(1700, rate_rps=14.0, prompt=500, output=60, seed=2))
    return Requests(
        np.concatenate([quiet.arrival_s, quiet.arrival_s[-1] + busy.arrival_s]),
        np.concatenate([quiet.prompt_tokens, busy.prompt_tokens]),
        np.concatenate([quiet.output_tokens, busy.output_tokens]),
    )


@functools.cache
def scenario(pools: Pools) -> Scenario:
    """One service that grows; with class pools, some of whose requests are guessed right."""
    plain = small.scenario(requests(), servers=4)
    (service,) = plain.services
    policy = dataclasses.replace(
        service.policy,
        bounds=Bounds(1, 8, tensor_parallel=(4, 8)),
        knobs=dataclasses.replace(service.policy.knobs, tensor_parallel=Knob.ACT),
        pools=pools,
    )
    return dataclasses.replace(plain, services=(dataclasses.replace(service, policy=policy),))


class Noting(Watched):
    """Keeps every decision with what is promised of it."""

    def __init__(self, *parts: object, delay_s: float) -> None:
        super().__init__(*parts, delay_s=delay_s)  # type: ignore[arg-type]  # handed on as they are
        self.decisions: list[tuple[Decision, tuple[Promise, ...]]] = []

    def _promised(self, policy: str, before: Memory, decision: Decision, now_s: float) -> tuple[Promise, ...]:
        found = super()._promised(policy, before, decision, now_s)
        self.decisions.append((decision, found))
        return found


@functools.cache
def watched(pools: Pools) -> tuple[Noting, Run]:
    made = scenario(pools)
    system = Noting(made.policies, made.profiles, made.settings, delay_s=made.telemetry_s)
    system.end_s = made.duration_s
    return system, engine.run(made, system)


either = pytest.mark.parametrize("pools", [ONE, SPLIT, APART], ids=["one pool", "class pools", "phases apart"])


@either
def test_who_is_watched_decides_as_ever(pools: Pools) -> None:
    made = scenario(pools)
    alone, beside = engine.run(made, Capstan.of(made)), watched(pools)[1]
    assert beside.services[0].outcomes.finish_s.tolist() == alone.services[0].outcomes.finish_s.tolist()
    assert beside.services[0].energy == alone.services[0].energy


@either
def test_what_is_promised_of_pools_is_together_what_the_decision_expects(pools: Pools) -> None:
    """The operator shows the sum of watts and the slowest latencies; each pool's own part must add up to them."""
    compared = 0
    for decision, promises in watched(pools)[0].decisions:
        expected = decision.policies[0].expected
        if expected.power_w is None:
            assert promises == ()
            continue
        both = plan.together([one.expected for one in promises], 0.0)
        assert (both.power_w, both.ttft_s, both.tpot_s) == pytest.approx(
            (expected.power_w, expected.ttft_s, expected.tpot_s)
        )
        compared += 1
    assert compared > 10


def test_class_pools_promise_each_for_itself() -> None:
    pools = {one.pool for one in watched(SPLIT)[0].promises}
    assert len(pools) >= 2


@either
def test_plans_of_a_pool_stand_one_after_the_other(pools: Pools) -> None:
    by_pool: dict[str, list[Promise]] = {}
    for one in watched(pools)[0].promises:
        if one.from_s is not None:
            by_pool.setdefault(one.pool, []).append(one)
    assert any(len(own) > 1 for own in by_pool.values())
    for own in by_pool.values():
        for before, after in itertools.pairwise(own):
            assert before.until_s is not None
            assert after.from_s is not None
            assert before.until_s <= after.from_s


def test_a_plan_that_grows_is_held_to_its_word_only_once_its_replicas_are_ready() -> None:
    """A pod takes 30 s; until then the watts are those of a start, and the latencies those of too few replicas."""
    promises = [one for one in watched(ONE)[0].promises if one.from_s is not None]
    grown = [
        (before, after)
        for before, after in itertools.pairwise(promises)
        if sum(tp * count for tp, count in after.fleet) > sum(tp * count for tp, count in before.fleet)
    ]
    assert grown
    for before, after in grown:
        assert before.until_s is not None
        assert after.from_s is not None
        assert after.from_s - before.until_s >= small.STARTUP_S - decide.Settings().instance_period_s


def test_the_joules_of_a_plan_are_those_that_the_run_has_for_its_time() -> None:
    """One pool: what its GPUs drew while a plan stood is the run's own watts over that time."""
    system, run = watched(ONE)
    series = run.services[0].series
    drawn_j = np.concatenate([[0.0], np.cumsum(series.gpus_w * np.diff(series.t_s, prepend=0.0))])
    times_s = np.concatenate([[0.0], series.t_s])
    long = [one for one in system.promises if one.span_s >= 20]
    assert long
    for one in long:
        span = np.interp([one.from_s or 0.0, one.until_s or 0.0], times_s, drawn_j)
        assert one.energy_j == pytest.approx(float(span[1] - span[0]), rel=0.01)


def test_nothing_is_written_down_once_the_last_request_has_arrived() -> None:
    system, run = watched(ONE)
    ends = [one.until_s for one in system.promises if one.until_s is not None]
    assert max(ends) <= float(requests().arrival_s[-1]) < run.duration_s


# --- what stands -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class FakePool:
    """A pool with these degrees: (tp, asked for, ready, starting, draining)."""

    degrees: tuple[tuple[int, int, int, int, int], ...]
    pool: str = "all"
    queues: tuple[int, int] = (0, 0)
    energy_j: float = 0.0

    def window(self, span_s: float) -> object:
        raise NotImplementedError(span_s)


PLAN: Fleet = ((4, 2),)
STANDS = {
    "as planned": (((4, 2, 2, 0, 0),), True),
    "one starts": (((4, 2, 1, 1, 0),), False),
    "one more drains": (((4, 2, 2, 0, 1),), False),
    "an old degree serves on": (((4, 2, 2, 0, 0), (8, 0, 1, 0, 0)), False),
    "an old degree is gone": (((4, 2, 2, 0, 0), (8, 0, 0, 0, 0)), True),
    "one was lost": (((4, 2, 1, 0, 0),), False),
    "nothing": ((), False),
}


@pytest.mark.parametrize(("degrees", "stands"), STANDS.values(), ids=STANDS)
def test_a_pool_stands_where_just_the_planned_replicas_serve(
    degrees: tuple[tuple[int, int, int, int, int], ...], stands: bool
) -> None:
    assert stands_as(FakePool(degrees), PLAN) is stands  # type: ignore[arg-type]  # nobody asks it for a window


def test_a_pool_that_is_not_there_stands_for_nothing() -> None:
    assert not stands_as(None, PLAN)


def test_a_plan_is_another_where_replicas_clock_or_classes_are() -> None:
    """The expectation of a later cycle is not another plan: the first one is what counts."""
    one = Promise(builders.CHAT, "all", (), PLAN, 1500.0, Effect(1000.0))
    assert one.same_plan(dataclasses.replace(one, expected=Effect(2000.0)))
    for changed in ({"fleet": ((4, 3),)}, {"clock_cap_mhz": None}, {"classes": (1, 2)}):
        assert not one.same_plan(dataclasses.replace(one, **changed))


def test_what_never_stood_has_no_span() -> None:
    assert Promise(builders.CHAT, "all", (), PLAN, None, Effect(1000.0)).span_s == 0.0


def test_a_view_of_the_present_is_all_that_is_used() -> None:
    """A cycle after the end changes nothing that was written down."""
    system = watched(ONE)[0]
    before = system.promises
    system.decide(Seen(system.end_s + 5.0, ()))
    assert system.promises == before
