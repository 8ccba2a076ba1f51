"""How much slower engines decode than believed: learnt from who is inside, kept within a quarter, planned with."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.workload import Workload
from capstan.optimize import bias
from support import builders

BELIEVED = builders.profile()
LOAD = Workload(2.0, 1155.0, 211.0)
DECODE = ("host_s", "weights_s", "per_sequence_s", "per_context_token_s")


def inside(profile: Profile) -> float:
    point = steady.operating_point(profile, LOAD)
    assert point is not None
    return point.batch


def truly(ratio: float) -> Profile:
    """The believed physics with decode steps so many times as long."""
    timing = BELIEVED.timing
    slower = {name: getattr(timing, name) * ratio for name in DECODE}
    return dataclasses.replace(BELIEVED, timing=dataclasses.replace(timing, **slower))


@pytest.mark.parametrize(
    ("learnt_ratio", "applied"),
    [(None, 1.0), (1.0, 1.0), (1.02, 1.0), (1.03, 1.05), (1.16, 1.15), (0.85, 0.85)],
    ids=["never learnt", "as believed", "less than half a step", "a step", "slower", "faster"],
)
def test_decode_steps_take_so_many_times_as_long_and_prompts_do_not(learnt_ratio: float | None, applied: float) -> None:
    found = bias.corrected(BELIEVED, learnt_ratio)
    for field in dataclasses.fields(BELIEVED.timing):
        times = applied if field.name in DECODE else 1.0
        assert getattr(found.timing, field.name) == pytest.approx(times * getattr(BELIEVED.timing, field.name))
    assert (found is BELIEVED) is (applied == 1.0)
    assert dataclasses.replace(found, timing=BELIEVED.timing) == BELIEVED


@pytest.mark.parametrize(
    ("before", "inside_ratio", "period_s", "after"),
    [
        pytest.param(1.0, 1.2, 600.0, 1.2, id="ten minutes of a fifth more inside: a fifth slower"),
        pytest.param(None, 1.2, 60.0, 1.2**0.1, id="a tenth of that time: a tenth of the way"),
        pytest.param(1.1, None, 600.0, 1.1, id="nobody knows: as before"),
        pytest.param(None, None, 5.0, None, id="nobody ever knew"),
        pytest.param(1.0, 50.0, 60.0, 1.4**0.1, id="a burst is no slow engine"),
        pytest.param(1.0, 0.0, 60.0, 0.7**0.1, id="nor nobody inside a fast one"),
        pytest.param(1.2, 1.4, 600.0, 1.25, id="a quarter at most"),
        pytest.param(0.8, 0.7, 600.0, 0.75, id="either way"),
    ],
)
def test_what_one_look_teaches(
    before: float | None, inside_ratio: float | None, period_s: float, after: float | None
) -> None:
    found = bias.learnt(before, inside_ratio, period_s=period_s)
    assert found is None if after is None else found == pytest.approx(after)


@pytest.mark.parametrize("truth", [0.8, 0.85, 1.0, 1.15, 1.2])
def test_in_half_an_hour_a_wrong_profile_is_found_out(truth: float) -> None:
    """Who is inside of engines that are truly so slow, against the steady state of the physics corrected so far."""
    there = inside(truly(truth))
    ratio: float | None = None
    for _ in range(int(1800 / 5)):
        ratio = bias.learnt(ratio, there / inside(bias.corrected(BELIEVED, ratio)), period_s=5.0)
    assert ratio == pytest.approx(truth, abs=bias.STEP_RATIO / 2 + 0.01)


@given(st.lists(st.floats(0.0, 100.0), max_size=50), st.floats(0.1, 3600.0))
def test_no_history_leaves_a_quarter(looks: list[float], period_s: float) -> None:
    ratio: float | None = None
    for look in looks:
        ratio = bias.learnt(ratio, look, period_s=period_s)
    assert ratio is None or (math.isfinite(ratio) and 0.75 <= ratio <= 1.25)
