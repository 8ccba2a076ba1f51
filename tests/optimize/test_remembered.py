"""What a pool remembers of its latencies and lengths: a miss is corrected once, chance is followed slowly."""

from __future__ import annotations

import dataclasses
import math

import pytest

from capstan.model import plan
from capstan.model.sample import Fresh
from capstan.optimize.case import Settings, remembered
from support.strategies import service

NOW_S = 5000.0
LENGTHS = (1155.0, 211.0, 0.9)


def learnt(looks: list[tuple[float, float]], margin_ratio: float = 1.0) -> list[float]:
    """The margin after each (moment, stress)."""
    memory, found = plan.PoolMemory("all", margin_ratio=margin_ratio), []
    for now_s, stress in looks:
        seen = dataclasses.replace(service((), rate=12.0), stress_ratio=Fresh(stress, 5.0))
        memory = remembered(now_s, seen, memory, Settings())
        assert memory.margin_ratio is not None
        found.append(memory.margin_ratio)
    return found


def test_a_miss_is_corrected_once_while_it_is_in_the_window() -> None:
    """1 x 0.8 / 1.02 = 0.784; worse is 0.784 x 1.02 / 1.1 = 0.727; a miss of other minutes 0.727 x 0.8 / 1.04, 0.6."""
    found = learnt([(0.0, 1.02), (5.0, 1.02), (10.0, 1.01), (15.0, 1.1), (315.0, 1.04), (320.0, 1.04), (325.0, 1.04)])
    assert found == pytest.approx([0.7843, 0.7843, 0.7843, 0.7273, 0.7273, 0.6, 0.6], abs=1e-4)


def test_room_loosens_slowly_and_between_both_it_stands() -> None:
    """A tenth of a percent a look, up to 0.8 x 1.25 = 1."""
    assert learnt([(0.0, 0.89), (5.0, 0.89), (10.0, 0.95)], 0.9) == pytest.approx([0.9009, 0.9018, 0.9018], abs=1e-4)
    assert learnt([(0.0, 0.5)], 1.0) == [1.0]


@pytest.mark.parametrize(
    ("prompt_tokens", "smoothed", "enough"),
    [(1250.0, False, 2000), (1400.0, False, 400), (1250.0, True, 400)],
    ids=["chance", "news", "smoothed before"],
)
def test_lengths_follow_news_at_once_and_chance_slowly(prompt_tokens: float, smoothed: bool, enough: int) -> None:
    """12 rps: 720 a minute, three times sqrt(0.9 / 720) = 10.6 %, 1,277 of 1,155. In 5 s come 60."""
    memory = plan.PoolMemory("all", lengths=LENGTHS, lengths_at_s=NOW_S - 5.0, lengths_cycles=1000)
    seen = dataclasses.replace(
        service((), rate=12.0), prompt_tokens=Fresh(prompt_tokens, 1.0), output_tokens=Fresh(LENGTHS[1], 1.0)
    )
    found = remembered(NOW_S, seen, memory, Settings(), smoothed=smoothed).lengths
    assert found is not None
    gone = 1 - math.exp(-60.0 / enough)
    assert found[0] == pytest.approx(LENGTHS[0] + gone * (prompt_tokens - LENGTHS[0]))
