"""One engine of the world: hand-calculated steps, and what must hold for any load, cap and way of watching."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model import latency, steady
from capstan.model.workload import Request, Workload
from capstan.replay.world import CLOCK_SWITCH_S, Emission, Engine
from support import builders
from support.replay import poisson, served

PROFILE = builders.profile()
Load = list[tuple[float, tuple[int, int]]]  # (seconds since the one before, (prompt tokens, output tokens))
Cap = float | None
HOST_S = PROFILE.timing.queue_host_s

lengths = st.tuples(st.integers(1, 3000), st.integers(1, 60))
loads = st.lists(st.tuples(st.floats(0, 0.5), lengths), min_size=1, max_size=25)
caps = st.sampled_from([None, 345.0, 600.0, 1110.0, 1560.0, 1980.0])
limits = st.sampled_from([None, 200.0, 300.0, 400.0, 700.0])


def requests_of(load: list[tuple[float, tuple[int, int]]]) -> list[Request]:
    t_s, made = 0.0, []
    for i, (gap_s, (prompt, output)) in enumerate(load):
        t_s += gap_s
        made.append(Request(i, t_s, prompt, output))
    return made


# --- by hand -----------------------------------------------------------------------------------------


def test_a_lone_request_takes_host_time_then_its_chunks_then_one_step_per_token() -> None:
    engine = Engine(PROFILE, now_s=0.0, chunk_tokens=512)
    engine.submit(Request(7, 0.0, 800, 3), 0.0)
    emissions = engine.advance(10.0)
    first_s = HOST_S
    first_s += latency.mixed_step_s(PROFILE, 0, 0, 512, 0, 1.0)
    first_s += latency.mixed_step_s(PROFILE, 0, 0, 288, 512, 1.0)
    second_s = first_s + latency.decode_step_s(PROFILE, 1, 801, 1.0)  # the prompt and the first token are in KV
    third_s = second_s + latency.decode_step_s(PROFILE, 1, 802, 1.0)
    assert [emission.t_s for emission in emissions] == pytest.approx([first_s, second_s, third_s])
    assert [dataclasses.replace(emission, t_s=0.0) for emission in emissions] == [
        Emission(7, 0.0, 1, first=True, finished=False),
        Emission(7, 0.0, 2, first=False, finished=False),
        Emission(7, 0.0, 3, first=False, finished=True),
    ]
    assert engine.idle
    assert (engine.prompt_tokens_total, engine.generation_tokens_total) == (800, 3)


def test_a_request_for_one_token_ends_with_its_prompt() -> None:
    engine = Engine(PROFILE, now_s=0.0)
    engine.submit(Request(1, 0.0, 100, 1), 0.0)
    (only,) = engine.advance(10.0)
    assert only.first
    assert only.finished
    assert engine.kv_usage == 0


def test_prompts_share_a_step_with_decodes_within_the_chunk_budget() -> None:
    """One sequence decodes, so 511 of the 512 tokens are left for the second prompt: two mixed steps for 600."""
    engine = Engine(PROFILE, now_s=0.0, chunk_tokens=512)
    engine.submit(Request(1, 0.0, 10, 50), 0.0)
    engine.advance(HOST_S + PROFILE.timing.prefill_min_s + 1e-9)
    engine.submit(Request(2, engine.next_event_s - HOST_S, 600, 2), engine.next_event_s - HOST_S)
    start_s = engine.next_event_s
    first = next(e for e in engine.advance(start_s + 1.0) if e.request_id == 2)
    mixed_s = latency.mixed_step_s(PROFILE, 1, 12, 511, 0, 1.0)
    mixed_s += latency.mixed_step_s(PROFILE, 1, 13, 89, 511, 1.0)
    assert first.t_s == pytest.approx(start_s + mixed_s)


def test_the_queue_head_blocks_those_behind_it_until_kv_is_free() -> None:
    small = dataclasses.replace(PROFILE, kv_tokens=1000)
    engine = Engine(small, now_s=0.0)
    for request_id, prompt in ((1, 600), (2, 900), (3, 50)):
        engine.submit(Request(request_id, 0.0, prompt, 20), 0.0)
    engine.advance(HOST_S + 0.001)
    assert (engine.running, engine.waiting) == (1, 2)
    order = [e.request_id for e in engine.advance(60.0) if e.first]
    assert order == [1, 2, 3]


def test_seats_are_limited() -> None:
    engine = Engine(PROFILE, now_s=0.0, max_num_seqs=2)
    for request_id in range(5):
        engine.submit(Request(request_id, 0.0, 10, 30), 0.0)
    engine.advance(HOST_S + 0.2)
    assert (engine.running, engine.waiting) == (2, 3)


def test_a_request_beyond_the_kv_cache_is_refused_by_name() -> None:
    engine = Engine(dataclasses.replace(PROFILE, kv_tokens=1000), now_s=0.0)
    too_long = Request(9, 0.0, 990, 11)
    assert not engine.fits(too_long)
    with pytest.raises(ValueError, match="request 9 needs more KV than the 1000 tokens"):
        engine.submit(too_long, 0.0)


def test_the_same_id_twice_is_refused_while_the_first_is_inside() -> None:
    engine = Engine(PROFILE, now_s=0.0)
    engine.submit(Request(1, 0.0, 10, 2), 0.0)
    with pytest.raises(ValueError, match="request 1 is in the engine already"):
        engine.submit(Request(1, 0.0, 10, 2), 0.0)
    engine.advance(10.0)
    engine.submit(Request(1, 10.0, 10, 2), 10.0)


def test_time_does_not_run_backwards() -> None:
    engine = Engine(PROFILE, now_s=5.0)
    with pytest.raises(ValueError, match="backwards"):
        engine.advance(4.0)


# --- clocks and watts --------------------------------------------------------------------------------


def test_an_idle_engine_draws_loaded_idle_watts_on_all_its_gpus() -> None:
    engine = Engine(PROFILE, now_s=100.0)
    engine.advance(160.0)
    assert engine.power_w == PROFILE.draw.loaded_idle_w
    assert engine.energy_j == pytest.approx(60 * 4 * PROFILE.draw.loaded_idle_w)
    assert engine.next_event_s == math.inf


def test_a_clock_cap_holds_from_the_first_step_that_starts_50_ms_later() -> None:
    engine = Engine(PROFILE, now_s=0.0)
    engine.submit(Request(1, 0.0, 100, 200), 0.0)
    engine.advance(1.0)
    engine.set_caps(1.0, clock_cap_mhz=1000.0, power_limit_w=None)
    engine.advance(1.0 + CLOCK_SWITCH_S - 1e-6)
    assert engine.sm_clock_mhz == PROFILE.clocks.max_mhz
    engine.advance(1.0 + CLOCK_SWITCH_S + 0.03)
    assert engine.sm_clock_mhz == 990.0  # the highest of the 15 MHz grid that is not above 1000


def test_asking_again_for_the_cap_in_force_changes_nothing() -> None:
    """The agent repeats its caps every second; a repeated one must not restart the switch delay."""
    asked_once, asked_often = Engine(PROFILE, now_s=0.0), Engine(PROFILE, now_s=0.0)
    for engine in (asked_once, asked_often):
        engine.submit(Request(1, 0.0, 100, 100), 0.0)
        engine.set_caps(0.0, clock_cap_mhz=900.0, power_limit_w=None)
    for tick in range(20):
        asked_often.advance(tick * 0.01)
        asked_often.set_caps(tick * 0.01, clock_cap_mhz=900.0, power_limit_w=None)
    assert asked_often.advance(20.0)[-1].t_s == asked_once.advance(20.0)[-1].t_s


def test_a_power_limit_slows_the_board_until_it_fits() -> None:
    free, limited = Engine(PROFILE, now_s=0.0), Engine(PROFILE, now_s=0.0)
    limited.set_caps(0.0, clock_cap_mhz=None, power_limit_w=300.0)
    watts = []
    for engine in (free, limited):
        engine.advance(1.0)
        engine.submit(Request(1, 1.0, 8000, 5), 1.0)
        engine.advance(1.2)
        watts.append(engine.power_w)
    assert watts[0] > 300.0 >= watts[1]
    assert limited.sm_clock_mhz < free.sm_clock_mhz
    assert limited.advance(60.0)[-1].t_s > free.advance(60.0)[-1].t_s


# --- for any load ------------------------------------------------------------------------------------


@given(loads, caps, limits)
@settings(max_examples=60)
def test_every_request_ends_exactly_once_and_every_token_is_counted(load: Load, cap: Cap, limit: Cap) -> None:
    engine = Engine(dataclasses.replace(PROFILE, kv_tokens=8000), now_s=0.0, max_num_seqs=4)
    engine.set_caps(0.0, clock_cap_mhz=cap, power_limit_w=limit)
    requests = requests_of(load)
    emissions = served(engine, requests)
    assert sorted(e.request_id for e in emissions if e.finished) == [r.request_id for r in requests]
    assert sorted(e.request_id for e in emissions if e.first) == [r.request_id for r in requests]
    for request in requests:
        own = [e.tokens_out for e in emissions if e.request_id == request.request_id]
        assert own == list(range(1, request.output_tokens + 1))
    assert engine.generation_tokens_total == len(emissions) == sum(r.output_tokens for r in requests)
    assert engine.prompt_tokens_total == sum(r.prompt_tokens for r in requests)
    assert (engine.kv_usage, engine.running, engine.waiting) == (0.0, 0, 0)
    assert [e.t_s for e in emissions] == sorted(e.t_s for e in emissions)


@given(loads, st.floats(0.003, 3.0), caps)
@settings(max_examples=40)
def test_watching_does_not_change_the_world(load: Load, period_s: float, cap: Cap) -> None:
    """Advanced in many small calls or in one, times and joules are equal to the last bit."""
    requests = requests_of(load)
    watched, alone = Engine(PROFILE, now_s=0.0), Engine(PROFILE, now_s=0.0)
    for engine in (watched, alone):
        engine.set_caps(0.0, clock_cap_mhz=cap, power_limit_w=None)
        for request in requests:
            engine.submit(request, request.arrival_s)
    end_s, seen, tick = requests[-1].arrival_s + 30.0, [], 1
    while tick * period_s < end_s:
        seen += watched.advance(tick * period_s)
        tick += 1
    seen += watched.advance(end_s)
    assert seen == alone.advance(end_s)
    assert watched.energy_j == alone.energy_j


@given(loads)
@settings(max_examples=30)
def test_leaving_tokens_out_leaves_first_and_last_as_they_are(load: Load) -> None:
    requests = requests_of(load)
    every = served(Engine(PROFILE, now_s=0.0), requests)
    ends = served(Engine(PROFILE, now_s=0.0), requests, tokens=False)
    assert ends == [e for e in every if e.first or e.finished]


@given(loads, caps, limits)
@settings(max_examples=40)
def test_energy_is_the_integral_of_power_and_kv_is_never_exceeded(load: Load, cap: Cap, limit: Cap) -> None:
    engine = Engine(dataclasses.replace(PROFILE, kv_tokens=5000), now_s=0.0, max_num_seqs=8)
    engine.set_caps(0.0, clock_cap_mhz=cap, power_limit_w=limit)
    for request in requests_of(load):
        engine.submit(request, request.arrival_s)
    integral_j = now_s = 0.0
    while not engine.idle:
        next_s, watts = engine.next_event_s, engine.power_w
        integral_j += (next_s - now_s) * watts * PROFILE.tp
        engine.advance(next_s)
        now_s = next_s
        assert 0 <= engine.kv_usage <= 1
        assert engine.running <= 8
    assert engine.energy_j == pytest.approx(integral_j, rel=1e-6)


@given(
    st.integers(0, 200),
    st.integers(0, 400),
    st.tuples(st.floats(345, 1980), st.floats(345, 1980)),
    st.tuples(st.floats(150, 800), st.floats(150, 800)),
)
@settings(max_examples=60)
def test_a_higher_clock_or_limit_never_lengthens_a_step(
    batch: int, chunk: int, two_caps: tuple[float, float], two_limits: tuple[float, float]
) -> None:
    def first_token_s(cap_mhz: float, limit_w: float) -> float:
        engine = Engine(PROFILE, now_s=0.0, chunk_tokens=512)
        engine.set_caps(0.0, clock_cap_mhz=cap_mhz, power_limit_w=limit_w)
        engine.advance(1.0)
        for request_id in range(batch):
            engine.submit(Request(request_id, 1.0, 2, 3), 1.0)
        engine.submit(Request(1000, 1.0, chunk + 1, 2), 1.0)
        return engine.advance(100.0)[-1].t_s

    slow, fast = sorted(two_caps)
    tight, loose = sorted(two_limits)
    assert first_token_s(fast, loose) <= first_token_s(slow, loose)
    assert first_token_s(fast, loose) <= first_token_s(fast, tight)


def test_a_day_like_load_stays_near_the_closed_form() -> None:
    """At a moderate load the world's TPOT lies where `model.steady` puts it: the two must not drift apart."""
    requests = poisson(1500, rate_rps=2.0)
    emissions = served(Engine(PROFILE, now_s=0.0), requests, tokens=False)
    first = {e.request_id: e.t_s for e in emissions if e.first}
    last = {e.request_id: e.t_s for e in emissions if e.finished}
    paces = sorted(
        (last[r.request_id] - first[r.request_id]) / (r.output_tokens - 1)
        for r in requests[100:]
        if r.output_tokens > 20
    )
    point = steady.operating_point(PROFILE, Workload(2.0, 1001, 201))
    assert point is not None
    assert paces[int(0.99 * len(paces))] == pytest.approx(point.tpot_s, rel=0.35)
