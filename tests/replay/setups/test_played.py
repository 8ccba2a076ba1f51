"""Set-ups in the world: the same joules as any replay of the same fleet, lanes for stages, and pools that hand over."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from capstan.api import errors
from capstan.model.policy import Bounds
from capstan.replay import engine
from capstan.replay.runs import Requests
from capstan.replay.scores import limits, score
from capstan.replay.searches.plans import Plan, Scheduled, whole
from capstan.replay.setups import demand, handed
from capstan.replay.setups.handed import PairHunt
from capstan.replay.setups.kinds import Pair, Setup
from capstan.replay.setups.screen import Screen
from capstan.replay.setups.world import Alone, Played
from support import setups, small
from support.setups import FULL_MHZ, OWN

SCENARIO = limits.SloSet.SCENARIO
LONE = Requests(np.array([1.0]), np.array([300]), np.array([10]))


def alone(trace: Requests | None = None, *, servers: int = 2) -> Alone:
    return Alone.of(small.scenario(trace, servers=servers), SCENARIO)


def screen_of(one: Alone) -> Screen:
    return setups.screen(
        stretches=demand.stretches(one.requests, small.TP4), rooms=one.rooms, bounds=one.bounds, slo=one.slo
    )


def test_a_fleet_with_the_scenario_s_flags_is_the_replay_s_own() -> None:
    one = alone()
    found = one.play(screen_of(one), Setup(OWN, 2, 1500.0))
    plan = whole(Plan.fixed(4, 2, 1500.0))
    scored = score.of(engine.run(small.scenario(), Scheduled("plan", {small.KEY: plan})))
    assert found.energy_j == scored.energy_j
    assert found.slo_met is scored.slo_met
    assert found.attainment_ratio == scored.overall.attainment_ratio
    assert (found.ttft_s, found.tpot_s) == (scored.overall.ttft_s.p99, scored.overall.tpot_s.p99)
    assert (found.requests, found.completed) == (300, 300)


def test_a_lone_request_on_a_larger_chunk_has_fewer_steps() -> None:
    """300 tokens in chunks of 100 are three steps, in one of 512 a single one."""
    one = alone(LONE)
    short, whole_prompt = (
        one.play(screen_of(one), Setup(dataclasses.replace(OWN, chunk_tokens=chunk), 1, FULL_MHZ))
        for chunk in (100, 512)
    )
    assert short.ttft_s > whole_prompt.ttft_s


def test_a_pipeline_is_played_as_its_lanes() -> None:
    """One replica of two stages: two lanes of four GPUs idle for as long as two replicas would."""
    one = alone(LONE)
    piped = one.play(screen_of(one), Setup(dataclasses.replace(OWN, pp=2), 1, FULL_MHZ))
    plain = one.play(screen_of(one), Setup(OWN, 2, FULL_MHZ))
    assert piped.setup.gpus == 8
    assert piped.ttft_s == pytest.approx(plain.ttft_s + 20e-6 + 300 * 81.92e-9 / 2, abs=15e-6), "a hop later"
    assert piped.energy_j == pytest.approx(plain.energy_j, rel=1e-2)


def test_only_the_scenario_s_policies_can_be_searched_for() -> None:
    with pytest.raises(errors.Invalid, match=r"--policy: llm/other is none of the scenario's; use one of llm/chat"):
        Alone.of(small.scenario(), SCENARIO, "llm/other")
    assert Alone.of(small.scenario(), SCENARIO, "llm/chat").policy == "llm/chat"


def test_rooms_are_what_the_servers_hold() -> None:
    assert alone(servers=3).rooms == {4: 6, 8: 3}


# --- pools that hand over ----------------------------------------------------------------------------

PAIR = Pair(Setup(OWN, 1, FULL_MHZ), Setup(OWN, 1, FULL_MHZ))


def more_prefill(pair: Pair, replicas: int) -> Pair:
    return dataclasses.replace(pair, prefill=dataclasses.replace(pair.prefill, replicas=replicas))


def test_a_lone_request_is_prefilled_here_and_decoded_there() -> None:
    """The first token as in one pool; 9 more, and 1.78 ms for 300 tokens' keys and values (0.4 ms + 1.38 ms)."""
    one = alone(LONE)
    screen = screen_of(one)
    pool, pair = one.play(screen, Setup(OWN, 1, FULL_MHZ)), handed.play(one, screen, PAIR)
    assert pair.ttft_s == pytest.approx(pool.ttft_s, rel=1e-9)
    assert 9 * (pair.tpot_s - pool.tpot_s) == pytest.approx(0.0017807, rel=1e-3)
    assert (pair.completed, pair.output_tokens, pair.slo_met) == (1, 10, True)


def test_a_replica_that_gets_nothing_idles_until_the_last_completion() -> None:
    """115 W x 4 GPUs from 0 to the end of the only answer; the fleet's other GPUs draw 75 W each without a model."""
    one = alone(LONE)
    screen = screen_of(one)
    lone, two = handed.play(one, screen, PAIR), handed.play(one, screen, more_prefill(PAIR, 2))
    end_s = 1.0 + lone.ttft_s + 9 * lone.tpot_s
    assert two.energy_j - lone.energy_j == pytest.approx(4 * 115 * end_s, rel=1e-9)
    assert lone.unassigned_j == pytest.approx(8 * 75 * end_s, rel=1e-9)
    assert two.unassigned_j == pytest.approx(4 * 75 * end_s, rel=1e-9)


def test_a_lower_clock_of_either_pool_costs_its_own_latency() -> None:
    one = alone()
    screen = screen_of(one)
    full = handed.play(one, screen, PAIR)
    slow_first = handed.play(one, screen, Pair(Setup(OWN, 1, 1020.0), PAIR.decode))
    slow_rest = handed.play(one, screen, Pair(PAIR.prefill, Setup(OWN, 1, 1020.0)))
    assert full.completed == slow_first.completed == slow_rest.completed == 300
    assert slow_first.ttft_s > full.ttft_s
    assert slow_rest.tpot_s > full.tpot_s
    assert slow_rest.ttft_s == full.ttft_s, "decoding is not in the prompts' way"


# --- the search among pairs --------------------------------------------------------------------------


@dataclasses.dataclass
class Limits:
    """Meets the SLO where prefill runs at `first_mhz` or more and decode at `rest_mhz`; joules follow both clocks."""

    first_mhz: float
    rest_mhz: float
    pairs: list[Pair] = dataclasses.field(default_factory=list)

    def __call__(self, pair: Pair) -> Played[Pair]:
        self.pairs.append(pair)
        late_first, late_rest = pair.prefill.clock_mhz < self.first_mhz, pair.decode.clock_mhz < self.rest_mhz
        joules = pair.prefill.gpus * pair.prefill.clock_mhz + pair.decode.gpus * pair.decode.clock_mhz
        return Played(
            pair, not (late_first or late_rest), 1.0, joules, 0.0,
            3.0 if late_first else 1.0, 0.2 if late_rest else 0.05, 1.0, 100, 100, 1000,
        )  # fmt: skip


STARTS = {
    "the closed form was cautious": (1140.0, 1020.0),
    "it was too bold about prefill": (1980.0, 1020.0),
    "and about decode": (1140.0, 1980.0),
}


@pytest.mark.parametrize(("first_mhz", "rest_mhz"), STARTS.values(), ids=STARTS)
def test_both_clocks_settle_where_the_world_says(first_mhz: float, rest_mhz: float) -> None:
    screen = setups.screen()
    hunt = PairHunt(screen, Limits(first_mhz, rest_mhz), 200)
    hunt.search(setups.pairs(screen))
    assert hunt.best is not None
    best = hunt.best.setup
    assert (best.prefill.clock_mhz, best.decode.clock_mhz) == (first_mhz, rest_mhz)
    assert hunt.finished


def test_a_pair_that_never_meets_grows_to_the_bounds_and_stops() -> None:
    screen = setups.screen(bounds=Bounds(1, 6))
    world = Limits(5000.0, 0.0)
    hunt = PairHunt(screen, world, 500)
    hunt.search(setups.pairs(screen))
    assert hunt.best is None
    assert len(set(world.pairs)) == len(world.pairs) < 500
    assert max(pair.prefill.replicas + pair.decode.replicas for pair in world.pairs) == 6


def test_runs_of_pairs_are_kept() -> None:
    screen, told = setups.screen(), list[float]()
    world = Limits(1980.0, 1980.0)
    hunt = PairHunt(screen, world, 3, told=told.append)
    hunt.search(setups.pairs(screen))
    assert len(world.pairs) == 3
    assert not hunt.finished
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_pairs_of_a_small_trace_are_found_in_the_world() -> None:
    one = alone(small.requests(200, 6.0))
    screen = screen_of(one)
    hunt = PairHunt(screen, functools.partial(handed.play, one, screen), 6)
    hunt.search(setups.pairs(screen))
    assert hunt.best is not None
    assert hunt.best.completed == 200
    assert hunt.best.slo_met


def test_an_unfinished_trace_is_told_as_it_is() -> None:
    """Half a second of drain after a flood: most of 400 requests are still inside, and none of them is good."""
    flood = small.requests(400, 400.0)
    scenario = dataclasses.replace(small.scenario(flood), drain_s=0.5)
    one = Alone.of(scenario, SCENARIO)
    found = handed.play(one, screen_of(one), PAIR)
    assert found.completed < 400
    assert found.attainment_ratio < 0.5
    assert not found.slo_met
