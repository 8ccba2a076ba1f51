"""Who may draw how many more watts: by hand, and what must hold for every tree and every claim."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import headroom
from capstan.model.headroom import Claim, DomainSeen, Grant
from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.powercap import allocate

HIGH, LOW = Priority.HIGH, Priority.LOW


Caps = tuple[float | None, float | None]
"""The clocks that low and high priority are capped at."""
FREE, LOW_CAP, HIGH_CAP = (None, None), (1785.0, None), (1560.0, 1830.0)


def domain(name: str, left: float | Sample[float], parent: str | None = None, caps: Caps = FREE) -> DomainSeen:
    """Of 10 kW: low priority may grow to 6 kW, high to 8 kW, and clocks of high may rise to 9 kW."""
    seen = Fresh(left, 1.0) if isinstance(left, int | float) else left
    low_mhz, high_mhz = caps
    return DomainSeen(name, 10_000.0, seen, parent, 0.6, 0.8, 0.9, low_mhz=low_mhz, high_mhz=high_mhz)


def grow(policy: str, watts: float, priority: Priority = LOW, at: str = "rack", **more: float) -> Claim:
    return Claim(policy, at, priority, growth_w=watts, **more)


@pytest.mark.parametrize(
    ("left", "claims", "expected"),
    [
        # 10 kW less 4 kW drawn: low grows to 6 kW, 2 kW more; nothing is left over
        pytest.param(6000, (grow("a", 4000),), {"a": 2000}, id="low-ends-at-the-low-threshold"),
        pytest.param(6000, (grow("a", 9000, HIGH),), {"a": 4000}, id="high-ends-at-the-high-threshold"),
        # 2 kW for three replicas and one of 800 W: 800 each in turn, and what is left is the next one's
        pytest.param(
            6000,
            (grow("a", 2400, replica_w=800), grow("b", 800, replica_w=800)),
            {"a": 1200, "b": 800},
            id="equals-take-turns",
        ),
        pytest.param(
            5000,
            (grow("a", 800, replica_w=800), grow("b", 800, replica_w=800)),
            {"a": 800, "b": 200},
            id="one-of-two-has-a-replica",
        ),
        # 4 kW to high's line, 1.5 kW of it for high; 2 kW to low's line are there whole: 4 - 1.5 = 2.5 kW are above it
        pytest.param(6000, (grow("a", 1500, HIGH), grow("b", 5000)), {"a": 1500, "b": 2000}, id="high-takes-its-own"),
        pytest.param(6000, (grow("a", 3500, HIGH), grow("b", 5000)), {"a": 3500, "b": 500}, id="high-comes-first"),
        # both needs are met, and the 1 kW that is left is offered in halves
        pytest.param(6000, (grow("a", 400), grow("b", 600)), {"a": 900, "b": 1100}, id="the-rest-in-equal-parts"),
        pytest.param(6000, (grow("a", 4000, booked_w=1500),), {"a": 500}, id="starting-replicas-are-booked"),
        pytest.param(3900, (grow("a", 4000),), {"a": 0}, id="nothing-above-the-low-threshold"),
        pytest.param(-500, (grow("a", 4000, HIGH),), {"a": 0}, id="a-shortfall-grants-nothing"),
        pytest.param(Missing(Reason.NO_DATA), (grow("a", 4000, HIGH),), {"a": 0}, id="unknown-grants-nothing"),
        pytest.param(Stale(6000.0, 90.0), (grow("a", 4000, HIGH),), {"a": 0}, id="stale-grants-nothing"),
        pytest.param(Fresh(math.nan, 1.0), (grow("a", 4000, HIGH),), {"a": 0}, id="nan-grants-nothing"),
    ],
)
def test_growth(left: float | Sample[float], claims: tuple[Claim, ...], expected: dict[str, float]) -> None:
    found = allocate.allocate((domain("rack", left),), claims)
    assert {grant.policy: grant.growth_w for grant in found} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("left", "caps", "high", "expected_w"),
    [
        # 6.1 kW are drawn: 1.9 kW to the high threshold
        pytest.param(3900, FREE, (), 0, id="not-capped-yet-it-would-be"),
        pytest.param(3900, LOW_CAP, (), 1900, id="capped-it-ends-where-high-would-be"),
        pytest.param(1900, LOW_CAP, (), 0, id="nothing-above-the-high-threshold"),
        pytest.param(3900, HIGH_CAP, (), 0, id="nothing-where-high-is-capped"),
        pytest.param(Missing(Reason.NO_DATA), LOW_CAP, (), 0, id="unknown-grants-nothing"),
        # a replica of high is kept free, whether it asks for one or not: 1.9 - 0.5, 1.9 - 0.8 - 0.5
        pytest.param(3900, LOW_CAP, (grow("h", 0, HIGH, replica_w=500),), 1400, id="a-replica-of-high-stays-free"),
        pytest.param(3900, LOW_CAP, (grow("h", 800, HIGH, replica_w=500),), 600, id="beyond-what-high-asks-for"),
        pytest.param(3900, LOW_CAP, (grow("h", 1600, HIGH, replica_w=500),), 0, id="high-needs-the-room"),
        pytest.param(3900, LOW_CAP, (grow("h", 0, replica_w=500),), 1900, id="nothing-is-kept-for-equals"),
        pytest.param(3900, LOW_CAP, (grow("h", 0, booked_w=700),), 1200, id="starting-replicas-are-booked"),
    ],
)
def test_growth_of_low_priority_where_it_alone_is_capped(
    left: float | Sample[float], caps: Caps, high: tuple[Claim, ...], expected_w: float
) -> None:
    found = allocate.allocate((domain("rack", left, caps=caps),), (grow("a", 4000), *high))
    assert {grant.policy: grant.growth_w for grant in found}["a"] == pytest.approx(expected_w)


def test_a_rack_that_is_not_capped_itself_ends_at_its_own_low_threshold() -> None:
    """The row caps low priority, and leaves 1.9 kW to its high threshold; the rack has 1 kW to its low one."""
    tree = (domain("row", 3900, caps=LOW_CAP), domain("one", 5000, "row"))
    (found,) = allocate.allocate(tree, (grow("a", 4000, at="one"),))
    assert found.growth_w == pytest.approx(1000)


def test_a_clock_rises_into_the_reserve_that_growth_leaves() -> None:
    """3.5 kW left of 10: above the low threshold, so that nothing grows; low's clocks have 1.5 kW to the high one."""
    claims = (Claim("a", "rack", LOW, clock_w=2000, growth_w=2000), Claim("b", "rack", HIGH, clock_w=500))
    low, high = allocate.allocate((domain("rack", 3500),), claims)
    assert low.clock_w == pytest.approx(1500)
    assert low.growth_w == 0
    assert (high.clock_w, high.growth_w) == (500, 0)


def test_nobody_waits_a_cycle_for_a_clock_that_there_is_room_for() -> None:
    """4.5 kW left: 0.5 to low's growth, 2.5 to its clocks, 3.5 to high's; two that asked for nothing have half each."""
    low, high = allocate.allocate((domain("rack", 4500),), (Claim("a", "rack", LOW), Claim("b", "rack", HIGH)))
    assert [low.growth_w, high.growth_w] == pytest.approx([250, 250])
    assert [low.clock_w, high.clock_w] == pytest.approx([1000, 1500])


def _four(policy: str, at: str) -> Claim:
    """Four replicas of half a kilowatt."""
    return grow(policy, 2000, at=at, replica_w=500)


def test_the_tightest_ancestor_limits() -> None:
    """The racks have 2 kW each to the low threshold, the row 1 kW: two of the same need have a replica each of that."""
    tree = (domain("row", 5000), domain("one", 6000, "row"), domain("two", 6000, "row"))
    found = allocate.allocate(tree, (_four("a", "one"), _four("b", "two")))
    assert [grant.growth_w for grant in found] == [500, 500]


def test_a_claim_outside_all_domains_is_nobodys_to_grant() -> None:
    assert allocate.allocate((domain("rack", 6000),), (grow("a", 1000, at=headroom.OUTSIDE),)) == ()


# --- what must hold for all ----------------------------------------------------------------------------

TREE = {"row": None, "one": "row", "two": "row", "three": None}
LEFT = st.floats(-2000, 10_000)
WATTS = st.floats(0, 6000)
CLAIMS = st.lists(
    st.builds(
        Claim,
        st.sampled_from("abcde"),
        st.sampled_from(("one", "two", "three")),
        st.sampled_from(Priority),
        clock_w=WATTS,
        growth_w=WATTS,
        replica_w=st.sampled_from((0.0, 400.0, 2400.0)),
        booked_w=st.floats(0, 500),
    ),
    max_size=6,
    unique_by=lambda claim: (claim.policy, claim.domain),
)
LEFTS = st.fixed_dictionaries(dict.fromkeys(TREE, LEFT))
CAPPED = st.fixed_dictionaries(dict.fromkeys(TREE, st.sampled_from((FREE, LOW_CAP, HIGH_CAP))))


def tree(lefts: dict[str, float], capped: dict[str, Caps]) -> tuple[DomainSeen, ...]:
    return tuple(domain(name, lefts[name], parent, capped[name]) for name, parent in TREE.items())


def total_w(name: str, grants: tuple[Grant, ...], domains: tuple[DomainSeen, ...]) -> float:
    known = headroom.by_name(domains)
    own = [grant for grant in grants if known[name] in headroom.lineage(grant.domain, known)]
    return sum(grant.clock_w + grant.growth_w for grant in own)


@given(LEFTS, CAPPED, CLAIMS)
def test_grants_never_exceed_the_headroom_of_any_ancestor(
    lefts: dict[str, float], capped: dict[str, Caps], claims: list[Claim]
) -> None:
    """Nor the brake's threshold, which lies a tenth of the budget below it."""
    domains = tree(lefts, capped)
    grants = allocate.allocate(domains, claims)
    for name in TREE:
        booked = sum(c.booked_w for c in claims if name in (c.domain, TREE[c.domain]))
        assert total_w(name, grants, domains) <= max(lefts[name] - 1000 - booked, 0) + 1e-6


@given(LEFTS, CAPPED, CLAIMS)
def test_growth_of_low_priority_leaves_room_below_the_line_of_every_ancestor(
    lefts: dict[str, float], capped: dict[str, Caps], claims: list[Claim]
) -> None:
    """The low threshold; where it alone is capped the high one, less a replica of high. Needs and starts included."""
    domains = tree(lefts, capped)
    grants = allocate.allocate(domains, claims)
    known = headroom.by_name(domains)
    for at in domains:
        inside = [c for c in claims if at in headroom.lineage(c.domain, known)]
        ends_w = 2000.0 if capped[at.name] is LOW_CAP else 4000.0
        kept = [c.replica_w for c in inside if c.priority is HIGH] if capped[at.name] is LOW_CAP else []
        low = {(c.policy, c.domain) for c in inside if c.priority is LOW}
        growth_w = sum(grant.growth_w for grant in grants if (grant.policy, grant.domain) in low)
        room_w = max(lefts[at.name] - ends_w - sum(c.booked_w for c in inside), 0)
        assert growth_w <= max(room_w - max(kept, default=0.0), 0) + 1e-6


@given(LEFTS, CAPPED, st.sampled_from(sorted(TREE)), st.floats(0, 5000), CLAIMS)
def test_more_headroom_lowers_nobodys_grant(
    lefts: dict[str, float], capped: dict[str, Caps], name: str, more_w: float, claims: list[Claim]
) -> None:
    before = allocate.allocate(tree(lefts, capped), claims)
    after = allocate.allocate(tree({**lefts, name: lefts[name] + more_w}, capped), claims)
    for old, new in zip(before, after, strict=True):
        assert new.clock_w >= old.clock_w - 1e-6
        assert new.growth_w >= old.growth_w - 1e-6


@given(LEFTS, CAPPED, CLAIMS.flatmap(lambda claims: st.tuples(st.just(claims), st.permutations(claims))))
def test_the_order_of_claims_and_domains_changes_nothing(
    lefts: dict[str, float], capped: dict[str, Caps], drawn: tuple[list[Claim], list[Claim]]
) -> None:
    claims, shuffled = drawn
    domains = tree(lefts, capped)
    assert allocate.allocate(domains, claims) == allocate.allocate(domains[::-1], shuffled)


@given(LEFTS, CAPPED, CLAIMS, st.floats(0, 6000))
def test_what_low_priority_asks_for_takes_nothing_from_high(
    lefts: dict[str, float], capped: dict[str, Caps], claims: list[Claim], more_w: float
) -> None:
    """Of what high needs; beyond it there is an equal part of what nobody needs."""
    greedy = [dataclasses.replace(c, growth_w=c.growth_w + more_w) if c.priority is LOW else c for c in claims]
    needs = {(claim.policy, claim.domain): claim for claim in claims if claim.priority is HIGH}
    domains = tree(lefts, capped)
    pairs = zip(allocate.allocate(domains, claims), allocate.allocate(domains, greedy), strict=True)
    for before, after in pairs:
        need = needs.get((before.policy, before.domain))
        if need is not None:
            assert min(after.clock_w, need.clock_w) == pytest.approx(min(before.clock_w, need.clock_w))
            assert min(after.growth_w, need.growth_w) == pytest.approx(min(before.growth_w, need.growth_w))


@pytest.mark.parametrize("watts", [-1.0, math.nan, math.inf])
def test_a_claim_of_nonsense_is_refused(watts: float) -> None:
    with pytest.raises(ValueError, match="finite watts"):
        grow("a", watts)
