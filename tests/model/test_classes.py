"""Classes by length, splits of them, limits by prompt length, and how much prompt lengths vary."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import steady
from capstan.model.classes import Edges
from capstan.model.slo import Slo
from capstan.model.workload import PROMPT_CV2, Workload, spread_ratio
from support.builders import profile

NINE = Edges()
P = profile()
TIERED = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))


@pytest.mark.parametrize(
    ("prompt", "output", "code", "name"),
    [
        (1, 1, 0, "SS"),
        (255, 99, 0, "SS"),
        (256, 99, 3, "MS"),
        (255, 100, 1, "SM"),
        (255.9, 349.9, 1, "SM"),
        (1023, 350, 5, "ML"),
        (1024, 350, 8, "LL"),
        (100_000, 1, 6, "LS"),
    ],
    ids=[
        "the shortest", "just below both edges", "a prompt at its edge", "an answer at its edge", "means have parts",
        "below one edge, at the other", "at both upper edges", "far above",
    ],
)  # fmt: skip
def test_an_edge_belongs_to_the_bucket_above_it(prompt: float, output: float, code: int, name: str) -> None:
    assert NINE.code(prompt, output) == code
    assert NINE.name(code) == name


@pytest.mark.parametrize(
    ("prompts", "outputs", "names"),
    [
        ((), (), ("AA",)),
        ((256,), (), ("SA", "LA")),
        ((), (100, 350), ("AS", "AM", "AL")),
        ((2, 3, 4), (2,), ("SS", "SL", "MS", "ML", "LS", "LL", "XS", "XL")),
    ],
    ids=["one class", "two by prompt", "three by answer", "four by two"],
)
def test_as_many_classes_as_buckets_say(prompts: tuple[int, ...], outputs: tuple[int, ...], names: tuple[str]) -> None:
    edges = Edges(prompts, outputs)
    assert tuple(edges.name(code) for code in range(edges.count)) == names
    assert edges.whole() == (tuple(range(len(names))),)


@pytest.mark.parametrize(
    "tokens", [(256, 256), (1024, 256), (1, 5), (0,), (2, 3, 4, 5)], ids=["twice", "down", "one", "zero", "four edges"]
)
def test_edges_that_make_no_classes_are_refused(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Edges(prompt_tokens=tokens)
    with pytest.raises(ValueError, match="ascend"):
        Edges(output_tokens=tokens)


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        (tuple(range(9)), "all"),
        ((0, 1, 2), "s"),
        ((3, 4, 5, 6, 7, 8), "ml"),
        ((0, 1), "ss-sm"),
        ((8,), "ll"),
        ((2, 3), "sl-ms"),
    ],
    ids=["everything", "a whole bucket", "two whole buckets", "two of a bucket", "one class", "over an edge"],
)
def test_a_pool_is_named_by_what_it_serves(codes: tuple[int, ...], name: str) -> None:
    assert NINE.pool_name(codes) == name


@given(st.sets(st.integers(0, 8), min_size=1), st.sets(st.integers(0, 8), min_size=1))
def test_two_pools_of_one_split_never_share_a_name(one: set[int], other: set[int]) -> None:
    """Whatever the parts: a name is a key of memory."""
    if not one & other:
        assert NINE.pool_name(tuple(sorted(one))) != NINE.pool_name(tuple(sorted(other)))


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(1, 100))
def test_longer_is_never_in_a_shorter_bucket(prompt: float, output: float, more: float) -> None:
    code, longer = NINE.code(prompt, output), NINE.code(prompt * more, output)
    assert 0 <= code <= longer < NINE.count
    assert NINE.prompt_bucket(code) <= NINE.prompt_bucket(longer)
    assert code % NINE.outputs == longer % NINE.outputs


# --- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shortest", "longest", "ttft_s", "tiers"),
    [
        (0, 256, 0.25, ()),
        (256, 1024, 0.4, ()),
        (1024, float("inf"), 2.0, ()),
        (0, 1024, 0.4, ((256, 0.25),)),
        (0, float("inf"), 2.0, ((256, 0.25), (1024, 0.4))),
        (300, float("inf"), 2.0, ((1024, 0.4),)),
        (0, 100, 0.25, ()),
        (0, 300, 0.4, ((256, 0.25),)),
    ],
    ids=[
        "the first tier", "the second", "above both", "both tiers", "everything", "from inside the second",
        "a part of the first", "a little of the second",
    ],
)  # fmt: skip
def test_a_pool_has_the_limits_of_its_prompts(
    shortest: float, longest: float, ttft_s: float, tiers: tuple[tuple[int, float], ...]
) -> None:
    assert TIERED.of_prompts(shortest, longest) == Slo(ttft_s, 0.1, 0.99, tiers)


@given(st.floats(0, 5000), st.floats(1, 5000), st.floats(0.01, 0.99))
def test_no_prompt_gets_another_limit_in_a_pool_of_its_own(shortest: float, width: float, at: float) -> None:
    def limit_s(slo: Slo, tokens: float) -> float:
        return next((limit for end, limit in slo.tiers if tokens < end), slo.ttft_s)

    tokens = shortest + at * width
    assert limit_s(TIERED.of_prompts(shortest, shortest + width), tokens) == limit_s(TIERED, tokens)


@pytest.mark.parametrize(
    "tiers",
    [((256, 0.4), (1024, 0.25)), ((1024, 0.25), (256, 0.4)), ((256, 3.0),), ((256, 0.0),)],
    ids=["limits that fall", "tokens that fall", "looser than the SLO", "a limit of nothing"],
)
def test_tiers_that_contradict_are_refused(tiers: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="tiers"):
        Slo(2.0, 0.1, 0.99, tiers)


# --- how much prompts vary, and who else waits ----------------------------------------------------------


def test_equal_prompts_wait_less_and_are_no_slower_to_make() -> None:
    """Pollaczek-Khinchine: the mean wait is proportional to 1 + cv2; a class of equal prompts has nearly half."""
    wide = Workload(2.0, 1155, 211)
    assert wide.prompt_cv2_ratio == PROMPT_CV2
    found = [steady.operating_point(P, dataclasses.replace(wide, prompt_cv2_ratio=cv2)) for cv2 in (0.0, 0.45, 0.9)]
    points = [point for point in found if point is not None]
    assert len(points) == 3
    assert points[0].ttft_s < points[1].ttft_s < points[2].ttft_s
    assert points[0].batch <= points[2].batch


@given(st.floats(0.0, 3.0))
def test_a_coarse_spread_is_within_half_a_step(cv2: float) -> None:
    assert abs(Workload(1.0, 100, 100, cv2).coarse().prompt_cv2_ratio - cv2) <= 0.0251


def test_a_spread_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt_cv2_ratio"):
        Workload(1.0, 100, 100, -0.1)


@given(st.floats(0.2, 3.5), st.integers(1, 8))
def test_neighbours_never_lengthen_a_wait_and_change_nothing_else(rate_rps: float, replicas: int) -> None:
    load = Workload(rate_rps, 1155, 211)
    alone, among = (steady.operating_point(P, load, replicas=n) for n in (replicas, replicas + 1))
    assert (alone is None) == (among is None)
    if alone is not None and among is not None:
        assert among.ttft_s <= alone.ttft_s
        assert (among.batch, among.tpot_s, among.gpu_w) == (alone.batch, alone.tpot_s, alone.gpu_w)


def test_a_longer_tier_is_a_longer_wait_for_its_first_token() -> None:
    at = steady.operating_point(P, Workload(2.0, 1155, 211), tiers_tokens=(64.0, 256.0, 1024.0, 4096.0))
    assert at is not None
    assert at.tiered is not None
    found = [at.tiered.ttft_s(tier, 0.99) for tier in at.tiered.tiers]
    assert found == sorted(found)
    assert found[0] < at.ttft_s


@pytest.mark.parametrize(
    ("measured", "requests", "expected"),
    [(0.51, 50, 0.77), (0.14, 20, 0.290), (0.14, 1000, 0.161), (0.9, 7, 0.9), (0.0, 1, 0.891), (2.0, 0, 0.9)],
    ids=["few", "few documents", "documents", "the usual", "one", "nobody"],
)
def test_few_requests_say_little_of_how_much_prompts_vary(measured: float, requests: float, expected: float) -> None:
    """(50 x 0.51 + 100 x 0.9) / 150 = 0.77; 0.14 x (1 + 3 sqrt(2.56 / 20)) = 0.290, of a thousand 0.161."""
    assert spread_ratio(measured, requests) == pytest.approx(expected, abs=0.001)
