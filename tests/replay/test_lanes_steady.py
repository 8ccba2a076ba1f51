"""In the world: replicas that share arrivals wait less, and a constant load leaves the clocks alone."""

from __future__ import annotations

import numpy as np
import pytest

from capstan.model import steady
from capstan.replay import kernel
from capstan.replay.runs import Floats, Ints, Requests
from rig import steadiness
from support import small
from support.builders import profile

P = profile()
RATE_RPS = 3.6  # of each replica: about two thirds of its time busy with prompts of these lengths
REQUESTS = 4000


def mean_wait_s(replicas: int) -> float:
    """Mean time to the first token beyond that of a prompt that nobody is before, fewest inside first."""
    chance = np.random.default_rng(7)
    count = REQUESTS * replicas
    arrival_s = np.cumsum(chance.exponential(1 / (RATE_RPS * replicas), count))
    prompts = np.maximum(chance.gamma(1 / 0.9, 0.9 * 1155.0, count).astype(np.int64), 1)
    outputs = 1 + chance.exponential(210.0, count).astype(np.int64)
    requests = Requests(arrival_s, prompts, outputs)
    world = kernel.World(requests, (P,), slots=replicas, end_s=float(arrival_s[-1]) + 120.0)
    for _ in range(replicas):
        world.cap(world.create(0, now_s=0.0, ready_s=0.0), 0.0, 1.0, float("inf"))
    world.advance(float(arrival_s[-1]) + 120.0)
    took_s = world.first_s - arrival_s
    alone_s = np.interp(prompts, *floor(took_s, prompts))
    return float(np.nanmean((took_s - alone_s)[count // 10 :]))


def floor(took_s: Floats, prompts: Ints) -> tuple[Floats, Floats]:
    """The quickest of each of forty sizes of prompts: who found an empty replica."""
    order = np.argsort(prompts)
    groups = np.array_split(order, 40)
    return (
        np.array([float(np.median(prompts[group])) for group in groups]),
        np.array([float(np.nanquantile(took_s[group], 0.02)) for group in groups]),
    )


def test_replicas_that_share_arrivals_wait_as_the_pooling_exponent_says() -> None:
    """`POOLING_EXPONENT`: n replicas wait n^-0.35 of what one does at the same load each; measured to 15 %."""
    alone_s = mean_wait_s(1)
    assert alone_s > 0.05, "a load at which somebody waits"
    for replicas in (2, 3, 6):
        ratio = mean_wait_s(replicas) / alone_s
        assert ratio == pytest.approx(replicas**-steady.POOLING_EXPONENT, rel=0.15)


@pytest.mark.parametrize(
    ("by_class", "delay_s"),
    [(False, 5.0), (False, 15.0), pytest.param(True, 15.0)],
    ids=["one pool", "one pool, seen late", "class pools, seen late"],
)
def test_a_constant_load_leaves_the_clocks_alone(by_class: bool, delay_s: float) -> None:
    """Small: 17 minutes, 3 rps. What half an hour of more does is what `rig decide steady` prints."""
    found = steadiness.play(
        small.BOTH,
        rate_rps=3.0,
        delay_s=delay_s,
        duration_s=1000.0,
        by_class=by_class,
    )
    assert found.most <= (2 if by_class else 1)
    assert found.attainment_ratio >= 0.98


@pytest.mark.parametrize(
    ("times_s", "most"),
    [([0.0], 1), ([0.0, 599.0, 600.0], 2), ([0.0, 10.0, 700.0], 2), ([0.0, 601.0, 1300.0], 1)],
    ids=["one", "the end is out", "two early", "all far apart"],
)
def test_the_busiest_ten_minutes(times_s: list[float], most: int) -> None:
    assert steadiness.busiest(times_s) == most
