"""What a past says of steps that are known, and what is none."""

from __future__ import annotations

import math

import pytest

from capstan.model.past import Block, Past


def test_a_sample_tells_of_the_step_that_ends_there() -> None:
    """Steps of 300 s from 3,000 s on: the first ends at 3,300 s. The second is not known, and is not 0."""
    past = Past("llm/chat", (Block(3000.0, 300.0, (1.5, None, 0.0)), Block(9000.0, 300.0, (2.0,))))
    assert list(past.samples()) == [(3300.0, 1.5), (3900.0, 0.0), (9300.0, 2.0)]


def test_nothing_known_is_no_sample() -> None:
    assert list(Past("llm/chat").samples()) == []
    assert list(Past("llm/chat", (Block(0.0, 300.0, (None, None)),)).samples()) == []


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="leave an unknown one None"):
        Block(0.0, 300.0, (rate,))


@pytest.mark.parametrize(("start_s", "step_s"), [(math.nan, 300.0), (0.0, 0.0), (0.0, math.inf), (0.0, -1.0)])
def test_a_block_has_a_start_and_a_step(start_s: float, step_s: float) -> None:
    with pytest.raises(ValueError, match="step_s"):
        Block(start_s, step_s, ())


@pytest.mark.parametrize("starts_s", [(300.0, 0.0), (0.0, 0.0)], ids=["backwards", "twice"])
def test_blocks_ascend(starts_s: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Past("llm/chat", tuple(Block(at_s, 300.0, (1.0,)) for at_s in starts_s))
