"""Any value of the core reads back as it was written: the ground under the parity of live and replay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.journal import codec
from capstan.model import fleet, headroom, outlook, plan
from capstan.model.objective import Series, Tariffs
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Priority
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.model.slo import Slo
from support import builders

NUMBERS = st.floats() | st.integers(-(2**60), 2**60)  # a float field may hold 5, and NaN, ±inf, −0.0 and subnormals
TEXTS = st.text(max_size=12)
COUNTS = st.integers(-(2**40), 2**40)
REASONS = st.sampled_from(Reason)
SAMPLES: st.SearchStrategy[Sample[float]] = st.one_of(
    st.builds(lambda value, age_s: Fresh(value, age_s), NUMBERS, NUMBERS),
    st.builds(lambda value, age_s: Stale(value, age_s), NUMBERS, NUMBERS),
    st.builds(Missing, REASONS),
)
MAYBE = st.none() | NUMBERS
DOMAINS = st.builds(
    headroom.DomainSeen,
    TEXTS,
    st.floats(1.0, 1e9),
    SAMPLES,
    st.none() | TEXTS,
    low_mhz=MAYBE,
    high_mhz=MAYBE,
    free_gpus=st.none() | COUNTS,
)
PLACES = st.builds(headroom.Place, TEXTS, COUNTS, COUNTS, starting=COUNTS)
SHARES = st.builds(plan.Share, TEXTS, COUNTS, NUMBERS)
POWER = st.builds(
    plan.PowerPlan,
    st.lists(SHARES, max_size=2).map(tuple),
    NUMBERS,
    st.lists(st.builds(plan.Move, TEXTS, TEXTS, COUNTS), max_size=2).map(tuple),
    st.booleans(),
)
POOLS = st.builds(
    fleet.PoolObserved,
    TEXTS,
    COUNTS,
    COUNTS,
    COUNTS,
    starting=COUNTS,
    terminating=COUNTS,
    gpu_product=st.none() | TEXTS,
)
SERVICES = st.builds(
    fleet.ServiceObserved,
    TEXTS,
    st.lists(POOLS, max_size=2).map(tuple),
    **dict.fromkeys(("arrival_rps", "prompt_tokens", "running", "waiting", "ttft_s", "tpot_s", "power_w"), SAMPLES),
    capped=st.booleans(),
    places=st.lists(PLACES, max_size=2).map(tuple),
)
OBSERVED = st.builds(
    fleet.Observed,
    NUMBERS,
    st.lists(SERVICES, max_size=3).map(tuple),
    domains=st.lists(DOMAINS, max_size=2).map(tuple),
)
CANDIDATES = st.builds(plan.Candidate, COUNTS, COUNTS, MAYBE, MAYBE, REASONS, st.booleans())
PLANS = st.builds(plan.PoolPlan, TEXTS, COUNTS, COUNTS, MAYBE, st.lists(COUNTS, max_size=3).map(tuple), NUMBERS)
POLICY_DECISIONS = st.builds(
    plan.PolicyDecision,
    TEXTS,
    st.lists(PLANS, max_size=2).map(tuple),
    st.builds(plan.Effect, MAYBE, MAYBE, MAYBE, MAYBE),
    REASONS,
    REASONS,
    MAYBE,
    st.lists(CANDIDATES, max_size=3).map(tuple),
    power=POWER,
)
POOL_MEMORIES = st.builds(
    plan.PoolMemory,
    TEXTS,
    rates=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4).map(tuple),
    lengths=st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS),
    fleet=st.none() | st.lists(st.tuples(COUNTS, COUNTS), max_size=2).map(tuple),
    fleet_since_s=MAYBE,
    reshaped_at_s=MAYBE,
    clock_cap_mhz=MAYBE,
    lower_clock_votes=COUNTS,
    voted_at_s=MAYBE,
    bias_spent_since_s=MAYBE,
)
AHEAD = st.builds(outlook.Ahead, COUNTS, *[NUMBERS] * 5, st.sampled_from(outlook.Source))
ISSUED = st.builds(outlook.Issued, AHEAD, st.tuples(MAYBE, MAYBE), NUMBERS)
LEADS = st.builds(outlook.Lead, st.tuples(NUMBERS, NUMBERS), NUMBERS, NUMBERS, st.lists(ISSUED, max_size=2).map(tuple))
TRACKERS = st.builds(
    outlook.Tracker,
    st.integers(1, 9),
    st.none() | COUNTS,
    st.lists(MAYBE, max_size=3).map(tuple),
    NUMBERS,
    near=LEADS,
    drift=st.builds(outlook.Drift, st.booleans(), NUMBERS),
    ahead=st.lists(AHEAD, max_size=2).map(tuple),
)
ADVICE = st.builds(plan.Advice, st.lists(PLANS, max_size=2).map(tuple), REASONS, st.builds(plan.Effect, MAYBE))
NEEDS = st.builds(plan.Need, COUNTS, NUMBERS)
POLICY_MEMORIES = st.builds(
    plan.PolicyMemory,
    TEXTS,
    pools=st.lists(POOL_MEMORIES, max_size=2).map(tuple),
    split=st.lists(st.lists(COUNTS, max_size=3).map(tuple), max_size=2).map(tuple),
    split_since_s=MAYBE,
    classes=st.lists(st.builds(fleet.ClassDemand, COUNTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=2).map(tuple),
    seen_at_s=MAYBE,
    wanted_gpus=COUNTS,
    needs=st.none() | st.builds(plan.Needs, NEEDS, NEEDS),
    tracker=st.none() | TRACKERS,
    advice=st.none() | ADVICE,
    advised_at_s=MAYBE,
)
MEMORIES = st.builds(plan.Memory, st.lists(POLICY_MEMORIES, max_size=3).map(tuple))
DECISIONS = st.builds(plan.Decision, st.lists(POLICY_DECISIONS, max_size=3).map(tuple), MEMORIES)
POLICIES = st.builds(
    Policy,
    TEXTS,
    TEXTS,
    st.builds(Slo, st.floats(0.001, 60), st.floats(0.001, 1), st.floats(0.5, 0.999)),
    st.sampled_from(Priority),
    MAYBE,
    st.builds(Bounds, max_gpus=st.none() | COUNTS, min_clock_mhz=MAYBE),
    st.builds(Knobs, *[st.sampled_from(Knob)] * 3),
    st.lists(TEXTS, max_size=2).map(tuple),
    st.booleans(),
)


def through(value: object) -> object:
    """Write a value down as a line of text and read it back."""
    return codec.decode(type(value), json.loads(json.dumps(codec.encode(value), allow_nan=False)))


def words(value: object) -> str:
    """Return a value as text that tells NaN from NaN alike, 5 from 5.0 and −0.0 from 0.0."""
    return repr(value)


@settings(max_examples=50)  # a decision of a few pools takes 50 ms to draw
@given(st.one_of(OBSERVED, DECISIONS, MEMORIES, POLICIES))
def test_a_value_of_the_core_reads_back_as_it_was_written(value: object) -> None:
    assert words(through(value)) == words(value)


PRICED = decide.Settings(tariffs=Tariffs(Series((0.0, 60.0), (1e-8, 2e-8), 120.0), 0.003, Series((0.0,), (1e-4,))))


@pytest.mark.parametrize(
    "value", [builders.profile(), decide.Settings(), PRICED], ids=["Profile", "Settings", "Settings with tariffs"]
)
def test_so_do_profiles_and_settings(value: object) -> None:
    assert words(through(value)) == words(value)


def test_a_hash_changes_with_a_profile_and_not_with_the_order_of_its_fields() -> None:
    one, other = codec.encode(builders.profile()), codec.encode(builders.profile(startup_s=121))
    assert codec.content_hash(one) != codec.content_hash(other)
    assert isinstance(one, dict)
    assert codec.content_hash(one) == codec.content_hash(dict(reversed(one.items())))


@pytest.mark.parametrize("value", [{"a": 1}, {1, 2}, b"x", object()], ids=["a-dict", "a-set", "bytes", "an-object"])
def test_what_the_core_does_not_say_cannot_be_recorded(value: object) -> None:
    with pytest.raises(codec.Unreadable, match="cannot be recorded"):
        codec.encode(value)


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        (plan.PolicyMemory, {"policy": 5}, r"PolicyMemory\.policy: 5 is not a str"),
        (plan.PoolMemory, {"pool": "all", "rates": "1,2"}, r"PoolMemory\.rates: '1,2' is not a list"),
        (plan.PoolMemory, {"pool": "all", "lengths": [1.0]}, r"PoolMemory\.lengths: 1 items instead of 3"),
        (plan.PolicyMemory, {"policy": "llm/chat", "surprise": 1}, "PolicyMemory: unknown field 'surprise'"),
        (
            plan.PolicyMemory,
            {"policy": "llm/chat", "wanted_gpus": True},
            r"PolicyMemory\.wanted_gpus: True is not a int",
        ),
        (plan.PolicyMemory, {"policy": "x", "seen_at_s": {"$": "float", "value": "big"}}, "'big' is none of nan"),
        (plan.PolicyMemory, {}, "PolicyMemory: .*'policy'"),
        (plan.PolicyMemory, [], "PolicyMemory: .* is not an object"),
        (Missing, {"reason": "Surprise"}, r"Missing\.reason: 'Surprise' is not a valid Reason"),
        (Slo, {"ttft_s": -1.0, "tpot_s": 0.1}, "Slo: an SLO limit is not above zero"),
        (Profile, {"name": "x"}, "Profile: .*missing"),
    ],
)
def test_what_is_not_ours_says_where(kind: type[object], raw: codec.Json, says: str) -> None:
    with pytest.raises(codec.Unreadable, match=says):
        codec.decode(kind, raw)
