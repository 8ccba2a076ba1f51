"""The bound: below every run of the reference engine, whatever the load and the clock; and what its proof leans on."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.api import convert, manifests, v1alpha1
from capstan.model.policy import Bounds
from capstan.model.profile import Clocks, Profile
from capstan.model.workload import Request
from capstan.replay.runs import Requests
from capstan.replay.searches import bound, demand, prices, steps
from capstan.replay.searches.plans import Fleet, Plan
from support import builders
from support.planned import PlannedWorld, columns, with_tp
from support.replay import ROOT, poisson

COARSE = Clocks(min_mhz=330, max_mhz=1980, step_mhz=165, v_min_ratio=0.72, knee_ratio=0.5)
TP4 = builders.profile(clocks=COARSE)  # eleven clocks: the bound walks all of them
TP8 = with_tp(TP4, 8)
SMALL = dataclasses.replace(TP4, max_num_seqs=8, chunk_tokens=64, kv_tokens=4000)
"""Few sequences and small chunks: its bound takes a fraction of a second."""

SMALL8 = with_tp(SMALL, 8)
MIDDLE = dataclasses.replace(TP4, max_num_seqs=48, chunk_tokens=192)

BOUNDS = Bounds(min_replicas=0, max_replicas=4, tensor_parallel=(4, 8))


def flat(requests: Requests, *, tpot_s: float = 0.1, ttft_s: float = 2.0) -> demand.Limits:
    return demand.Limits.flat(requests, ttft_s=ttft_s, tpot_s=tpot_s)


def one(prompt: int, output: int) -> Requests:
    return columns([Request(0, 0.0, prompt, output)])


# --- the work of a trace -----------------------------------------------------------------------------


def test_a_request_reads_its_growing_context_in_every_decode_step() -> None:
    """800 + 3 tokens: two decode steps that read 801 and 802; chunks 512 and 288, the second after 512 tokens."""
    requests = one(800, 3)
    work = demand.of(requests, flat(requests), chunk_tokens=512)
    assert work.decode_tokens[0] == 2
    assert work.context_tokens[0] == 801 + 802
    assert work.pair_tokens2[0] == 288 * 512


def test_a_crowd_counts_whose_windows_overlap_while_one_is_inside() -> None:
    """Windows are arrival + 2 s + 0.1 s x (out - 1): [0, 3], [2.9, 5.9], [50, 53]."""
    requests = columns([Request(0, 0.0, 10, 11), Request(1, 2.9, 10, 11), Request(2, 50.0, 10, 11)])
    assert demand.of(requests, flat(requests), chunk_tokens=512).crowd.tolist() == [2, 2, 1]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 80)), min_size=1, max_size=40))
def test_no_crowd_is_below_the_overlap_at_any_arrival(load: list[tuple[float, int]]) -> None:
    rows = sorted(load)
    requests = columns([Request(i, t_s, 10, output) for i, (t_s, output) in enumerate(rows)])
    ends = [t_s + 2.0 + 0.1 * (output - 1) for t_s, output in rows]
    crowd = demand.of(requests, flat(requests), chunk_tokens=512).crowd
    for i, (t_s, _) in enumerate(rows):
        during = [other for other, _ in rows if t_s <= other <= ends[i]]
        overlap = max(sum(a <= at <= e for (a, _), e in zip(rows, ends, strict=True)) for at in during)
        assert crowd[i] >= overlap


# --- what the proof leans on -------------------------------------------------------------------------

SHIPPED = tuple(
    convert.profile(document.manifest())
    for path in sorted((ROOT / "policies" / "profiles").glob("*.yaml"))
    for document in manifests.load(path)
    if isinstance(document, v1alpha1.ServingProfile)
)
PHYSICS = st.sampled_from([TP4, TP8, *SHIPPED])
"""Shipped profiles too: a new form of the physics that breaks what the proof leans on must fail here."""

batches = st.integers(0, 255)
chunks = st.integers(0, 500)
ratios = st.sampled_from([330 / 1980, 0.4, 0.55, 0.75, 0.9, 1.0])


@settings(max_examples=300)
@given(PHYSICS, batches, chunks, st.integers(0, 300_000), st.integers(0, 8000), ratios)
def test_more_tokens_never_make_a_step_shorter_or_cheaper(
    p: Profile, batch: int, chunk: int, context: int, prior: int, x: float
) -> None:
    if batch + chunk == 0:
        return
    here = steps.cost(p, batch, chunk, (context, prior), x)
    longer = [steps.cost(p, batch, chunk, (context + 1000, prior), x)]
    if batch:  # a prompt alone is another kind of step, and a box of its own
        longer.append(steps.cost(p, batch + 1, chunk, (context, prior), x))
    if chunk:
        longer.append(steps.cost(p, batch, chunk + 1, (context, prior), x))
        longer.append(steps.cost(p, batch, chunk, (context, prior + 100), x))
    for more in longer:
        assert more[0] >= here[0] * (1 - 1e-12)
        assert more[1] >= here[1] * (1 - 1e-12)


@settings(max_examples=300)
@given(PHYSICS, batches, st.integers(1, 500), ratios, st.floats(0, 1))
def test_joules_are_concave_in_the_contexts(p: Profile, batch: int, chunk: int, x: float, share: float) -> None:
    """Off the floor under a prompt's step; the corner of a box knows where that ends (`_kinks`)."""
    for context, prior in ((400_000.0, 0.0), (0.0, 8000.0), (400_000.0, 8000.0)):
        low, high = (steps.cost(p, batch, chunk, end, x) for end in ((0.0, 0.0), (context, prior)))
        if steps.cost(p, batch, chunk, (1.0, 1.0), x)[1] <= low[1]:
            return
        between_j = steps.cost(p, batch, chunk, (context * share, prior * share), x)[0]
        assert between_j >= (1 - share) * low[0] + share * high[0] - 1e-9 * high[0]


@settings(max_examples=200)
@given(PHYSICS, st.integers(0, 20), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_no_place_of_a_box_is_below_every_price_that_its_corners_hold(
    p: Profile, batch: int, chunk: int, near: float, far: float
) -> None:
    """Small prompts on a high floor: prices of contexts that fit the corners fit every place between them."""
    floor = dataclasses.replace(p, timing=dataclasses.replace(p.timing, prefill_min_s=p.timing.prefill_min_s * 1.5))
    space = steps.Space(((floor, 1.0),), steps.Reach(1, 4000, 4000))
    box = steps.Boxes(*np.array([[0], [batch], [batch], [chunk], [chunk]]))
    found = space.corners(box)
    most = float(min(batch * 4000, floor.kv_tokens))
    place = (batch + near * max(most - batch, 0.0) if batch else 0.0, far * 4000.0)
    energy_j = steps.cost(floor, batch, chunk, place, 1.0)[0]
    for share in (0.0, 0.5, 1.0):
        slope = found.energy_j.max() / np.array([max(most, 1.0), 4000.0 * chunk]) * (share, 1 - share)
        base_j = (found.energy_j - slope[0] * found.context_tokens - slope[1] * found.pair_tokens2).min()
        assert energy_j >= base_j + slope[0] * place[0] + slope[1] * place[1] * chunk - 1e-9 * energy_j


def test_boxes_split_until_they_are_points_and_lose_none() -> None:
    boxes = steps.Boxes(*np.array([[0], [1], [5], [0], [2]]))
    points: set[tuple[int, int]] = set()
    while len(boxes):
        done = (boxes.least_batch == boxes.most_batch) & (boxes.least_chunk == boxes.most_chunk)
        points |= set(zip(boxes.least_batch[done].tolist(), boxes.least_chunk[done].tolist(), strict=True))
        boxes = steps.split(boxes)
    assert points == set(itertools.product(range(1, 6), range(3)))


def test_certified_prices_are_below_every_step_of_a_small_engine() -> None:
    """All 8 x 65 compositions at four clocks, contexts from end to end, good or late: none is undercut."""
    requests = columns(poisson(60, rate_rps=2.0, prompt=200, output=40))
    found, market, reach = certified(requests, SMALL)
    for level, crowd in enumerate(market.crowd):
        price = found.each[level]
        for batch, chunk, x in itertools.product(
            range(9), (0, 1, 7, 30, 56), (330 / 1980, 990 / 1980, 1485 / 1980, 1.0)
        ):
            if not 0 < batch + chunk <= SMALL.chunk_tokens:
                continue
            for context, prior in itertools.product(
                (batch * reach.least_context, batch * reach.most_context), (0, 300)
            ):
                context = min(context, SMALL.kv_tokens)
                energy_j, duration_s = steps.cost(SMALL, batch, chunk, (context, prior if chunk else 0), x)
                for good in {0, min(batch, int(crowd))}:
                    paid_j = energy_j + found.pace_w * good * (duration_s - market.tpot_s)
                    paid_j -= found.idle_ratio * market.idle_w * SMALL.tp * duration_s
                    made_j = price[0] * good + found.late_j * (batch - good) + price[1] * chunk
                    made_j += price[2] * context + price[3] * chunk * prior
                    assert made_j <= paid_j * (1 + 1e-9)


def certified(requests: Requests, profile: Profile) -> tuple[prices.Prices, prices.Market, steps.Reach]:
    limits = flat(requests)
    work = demand.of(requests, limits, chunk_tokens=profile.chunk_tokens)
    market = bound.market(work, limits, (profile,), standing_gpu_s=100.0)
    reach = bound.reach(requests)
    found, _ = bound.certified(market, (profile,), reach)
    return found, market, reach


# --- against the world -------------------------------------------------------------------------------


def plays(requests: Requests, profiles: tuple[Profile, ...], plan: Plan, limits: demand.Limits) -> float:
    """Joules of a run, or inf where it misses the SLO: the bound speaks of runs that meet it."""
    trial = PlannedWorld(profiles, requests, limits)(plan)
    return trial.energy_j if trial.slo_met else math.inf


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.floats(0, 0.6), st.integers(1, 400), st.integers(1, 60)), min_size=3, max_size=36),
    st.sampled_from([None, 330.0, 990.0, 1155.0, 1485.0]),
    st.integers(1, 2),
)
def test_no_run_that_meets_the_slo_is_below_the_bound(
    load: list[tuple[float, int, int]], clock: float | None, replicas: int
) -> None:
    t_s = np.cumsum([gap for gap, _, _ in load])
    rows = zip(t_s.tolist(), load, strict=True)
    requests = columns([Request(i, t, p, o) for i, (t, (_, p, o)) in enumerate(rows)])
    limits = flat(requests, ttft_s=30.0, tpot_s=0.2)
    least_j = bound.of(requests, limits, (SMALL,), Bounds(0, 4, None, (4,))).energy_j
    assert 0 <= least_j <= plays(requests, (SMALL,), Plan.fixed(4, replicas, clock), limits)


def test_it_stays_below_a_busy_engine_and_is_not_idle_talk() -> None:
    """A replica that is full most of the time, at the clock where joules are least: within a factor of two."""
    requests = columns(poisson(200, rate_rps=12.0, prompt=300, output=80))
    limits = flat(requests, ttft_s=30.0, tpot_s=0.2)
    least = bound.of(requests, limits, (MIDDLE,), Bounds(0, 1, None, (4,)))
    used_j = min(plays(requests, (MIDDLE,), Plan.fixed(4, 1, mhz), limits) for mhz in (990.0, 1155.0, 1485.0, None))
    assert used_j < math.inf
    assert used_j / 2 < least.energy_j <= used_j
    assert least.certificate_ratio > 0.9


def test_changing_fleets_and_clocks_are_above_it_too() -> None:
    requests = columns(poisson(80, rate_rps=2.0, prompt=150, output=40))
    limits = flat(requests, ttft_s=20.0, tpot_s=0.2)
    fleets = (Fleet(4, 1), Fleet(8, 1), Fleet(4, 2))
    plan = Plan(fleets, (1155.0, None, 990.0), slot_s=10.0, clock_s=5.0)
    least = bound.of(requests, limits, (SMALL, SMALL8), BOUNDS)
    assert 0 < least.energy_j <= plays(requests, (SMALL, SMALL8), plan, limits)


def test_a_replica_that_always_stands_is_counted_when_there_is_little_to_do() -> None:
    """Ten short requests in 1000 s: idle watts of four GPUs are 460 kJ, whatever is done."""
    requests = columns([Request(i, i * 111.0, 50, 5) for i in range(10)])
    limits = flat(requests)
    free = bound.of(requests, limits, (SMALL,), Bounds(0, 4, None, (4,)))
    standing = bound.of(requests, limits, (SMALL,), Bounds(1, 4, None, (4,)))
    assert free.idle_j == 0
    assert standing.idle_j == pytest.approx(999 * 4 * 115, rel=0.1)
    assert standing.energy_j <= plays(requests, (SMALL,), Plan.fixed(4, 1), limits)


def test_a_lonely_request_pays_for_the_weights_alone_and_a_crowd_shares_them() -> None:
    apart = columns([Request(i, i * 60.0, 100, 50) for i in range(8)])
    together = columns([Request(i, i * 0.01, 100, 50) for i in range(8)])
    alone = bound.of(apart, flat(apart), (SMALL,), Bounds(0, 4, None, (4,)))
    shared = bound.of(together, flat(together), (SMALL,), Bounds(0, 4, None, (4,)))
    assert shared.energy_j < alone.energy_j / 2


@pytest.mark.parametrize("more", [1.5, 3.0])
def test_twice_the_trace_never_costs_less(more: float) -> None:
    requests = columns(poisson(40, rate_rps=1.0, prompt=200, output=40))
    rows = [
        (t, p, o) for t, p, o in zip(requests.arrival_s, requests.prompt_tokens, requests.output_tokens, strict=True)
    ]
    extra = [(t + 0.001, p, o) for t, p, o in rows[: int(len(rows) * (more - 1))]]
    every = sorted(rows + extra)
    bigger = columns([Request(i, float(t), int(p), int(o)) for i, (t, p, o) in enumerate(every)])
    energies = [bound.of(r, flat(r), (SMALL,), Bounds(0, 4, None, (4,))).work_j for r in (requests, bigger)]
    assert energies[0] <= energies[1]


def test_a_request_that_some_engine_must_refuse_costs_nothing() -> None:
    requests = columns([Request(0, 0.0, 5000, 10), Request(1, 1.0, 100, 10)])
    found = bound.of(requests, flat(requests), (SMALL,), Bounds(0, 4, None, (4,)))
    assert found.request_j[0] == 0
    assert found.request_j[1] > 0
