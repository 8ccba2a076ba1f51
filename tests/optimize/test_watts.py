"""What a policy asks of power domains, and what its plan may do with the answer."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.model import headroom, plan, power
from capstan.model.headroom import OUTSIDE, DomainSeen, Grant, Place
from capstan.model.policy import Priority
from capstan.model.sample import Fresh
from capstan.model.workload import Workload
from capstan.optimize import watts
from capstan.optimize.watts import Allowance, Subject
from support.builders import CHAT, policy
from support.strategies import TP4, service

LOAD = Workload(0.0, 1000.0, 200.0, 0.9)


def domain(
    name: str, left_w: float, *, low_mhz: float | None = None, high_mhz: float | None = None, free: int | None = None
) -> DomainSeen:
    """20 kW at 80 % efficiency; low priority may grow below 16 kW, where it alone is capped below 18 kW."""
    return DomainSeen(
        name,
        20_000.0,
        Fresh(left_w, 1.0),
        low_ratio=0.8,
        high_ratio=0.9,
        supply_efficiency_ratio=0.8,
        low_mhz=low_mhz,
        high_mhz=high_mhz,
        free_gpus=free,
    )


def subject(*places: Place, gpus: int = 0, clock_w: float = 0.0, load: Workload | None = LOAD) -> Subject:
    asked = plan.PowerMemory(asked_gpus=gpus, asked_clock_w=clock_w)
    return Subject(policy(), service((), rate=1.0, places=places), TP4, load, asked)


BUSY_W = subject().busy_w()
DEEP_W = subject().busy_w(1560)


def test_a_busy_gpu_draws_between_idle_and_its_worst_case() -> None:
    """Of unknown requests the worst case is counted."""
    assert power.idle_w(TP4) < BUSY_W < power.worst_case_w(TP4, 1.0)
    assert subject(load=None).busy_w() == power.worst_case_w(TP4, 1.0)


def test_at_a_capped_clock_it_draws_less() -> None:
    """Also what is unknown: no board draws its limit at 1,560 MHz for longer than at 1,980."""
    assert power.idle_w(TP4) < DEEP_W < BUSY_W
    assert subject(load=None).busy_w(1560) == power.worst_case_w(TP4, 1560 / TP4.clocks.max_mhz)


def test_growth_is_asked_for_where_most_watts_are_left() -> None:
    """Eight GPUs more; AC is DC over 0.8. One that caps comes last, one that caps high priority never."""
    known = watts.ground(
        (
            domain("a", 9000),
            domain("b", 18_000),
            domain("c", 19_000, low_mhz=1560),
            domain("d", 19_000, low_mhz=1560, high_mhz=1830),
        ),
        Priority.LOW,
    )
    assert known.targets == ("b", "a", "c")
    found = {claim.domain: claim for claim in watts.claims(subject(Place("a", 4, 2), gpus=8), known)}
    assert found["b"].growth_w == pytest.approx(8 * BUSY_W / 0.8)
    assert (found["a"].growth_w, found["c"].growth_w) == (0, 0)


def test_growth_into_a_capped_domain_is_asked_for_at_its_clock() -> None:
    """Where the others have no watts: a replica, and what its start-up is booked at."""
    known = watts.ground((domain("a", 4000), domain("c", 19_000, low_mhz=1560)), Priority.LOW)
    found = {one.domain: one for one in watts.claims(subject(Place("c", 4, 1, starting=1), gpus=4), known)}["c"]
    assert found.growth_w == found.replica_w == pytest.approx(4 * DEEP_W / 0.8)
    assert found.booked_w == pytest.approx(4 * (DEEP_W - power.idle_w(TP4)) / 0.8)


def test_a_clock_is_asked_for_where_the_gpus_are_and_starting_ones_are_booked() -> None:
    known = watts.ground((domain("a", 9000), domain("b", 9000)), Priority.LOW)
    places = (Place("a", 4, 3), Place("b", 4, 0, starting=1))
    found = {claim.domain: claim for claim in watts.claims(subject(*places, clock_w=800.0), known)}
    assert [found[name].clock_w for name in "ab"] == pytest.approx([600 / 0.8, 200 / 0.8])
    assert [found[name].booked_w for name in "ab"] == pytest.approx([0, 4 * (BUSY_W - power.idle_w(TP4)) / 0.8])


def allowed(*grants: Grant, domains: tuple[DomainSeen, ...], places: tuple[Place, ...]) -> Allowance:
    return watts.allowance(subject(*places), watts.ground(domains, Priority.LOW), grants)


def test_grants_are_whole_replicas_and_the_scarcest_domain_rules_the_clock() -> None:
    """Watts for 4.5 GPUs in one and 3.5 in the other: one replica. A clock rises on both at once."""
    grants = (
        Grant(CHAT, "a", clock_w=100.0, growth_w=4.5 * BUSY_W / 0.8),
        Grant(CHAT, "b", clock_w=500.0, growth_w=3.5 * BUSY_W / 0.8),
    )
    known, places = (domain("a", 9000), domain("b", 9000)), (Place("a", 4, 1), Place("b", 4, 1))
    found = allowed(*grants, domains=known, places=places)
    assert found.growth_gpus == 4
    assert found.clock_w == pytest.approx(100 * 0.8 * 2)
    assert found.cap_mhz is None


@pytest.mark.parametrize(
    ("high_mhz", "expected"), [(None, 8 + 4), (1830, 4)], ids=["low alone is capped", "high is capped, too"]
)
def test_no_scale_out_where_high_is_capped_nor_past_the_free_gpus_of_any(high_mhz: float | None, expected: int) -> None:
    """Watts for nine GPUs at the capped clock, which are not nine at the full one; four are free in the other."""
    grants = (Grant(CHAT, "a", 0.0, 9 * DEEP_W / 0.8), Grant(CHAT, "b", 0.0, 100 * BUSY_W))
    known = (domain("a", 9000, low_mhz=1560, high_mhz=high_mhz, free=16), domain("b", 9000, free=7))
    assert 9 * DEEP_W < 8.5 * BUSY_W
    assert allowed(*grants, domains=known, places=(Place("a", 4, 1),)).growth_gpus == expected


def test_while_nothing_is_capped_free_gpus_are_the_schedulers_business() -> None:
    """Others may have to make room first: `share` sees to that."""
    found = allowed(Grant(CHAT, "b", 0.0, 8 * BUSY_W), domains=(domain("b", 9000, free=0),), places=(Place("b", 4, 1),))
    assert found.growth_gpus == 4 * int(8 * 0.8 // 4)


@pytest.mark.parametrize(
    ("domains", "places"),
    [((), (Place("a", 4, 2),)), ((domain("a", 9000),), (Place(OUTSIDE, 4, 2),))],
    ids=["there are none", "none holds its pods"],
)
def test_who_lies_in_no_domain_is_limited_by_none(domains: tuple[DomainSeen, ...], places: tuple[Place, ...]) -> None:
    assert allowed(domains=domains, places=places) == watts.UNLIMITED


def test_the_loosest_cap_counts_where_all_replicas_are_capped() -> None:
    known = (domain("a", 0, low_mhz=1560), domain("b", 0, low_mhz=1785))
    assert allowed(domains=known, places=(Place("a", 4, 1), Place("b", 4, 1))).cap_mhz == 1785
    assert allowed(domains=known, places=(Place("a", 4, 1),)).cap_mhz == 1560


@pytest.mark.parametrize(
    ("gpus", "wanted", "expected"),
    [
        (None, ((4, 9),), ((4, 9),)),
        (12, ((4, 5),), ((4, 5),)),
        (8, ((4, 5),), ((4, 4),)),
        (3, ((4, 5),), ((4, 2),)),
        (0, ((4, 1),), ((4, 1),)),
        (0, ((8, 1),), ((4, 2),)),
        (8, ((8, 1),), ((8, 1),)),
    ],
    ids=[
        "no limit",
        "all of it",
        "two of three",
        "none",
        "less needs nothing",
        "another degree needs watts",
        "and has",
    ],
)
def test_what_may_be_started_of_a_wanted_fleet(gpus: int | None, wanted: plan.Fleet, expected: plan.Fleet) -> None:
    """Two of tp 4 stand."""
    assert watts.fitted(Allowance(growth_gpus=gpus), wanted, ((4, 2),), tp=4) == expected


def test_several_pools_have_equal_parts() -> None:
    whole = Allowance(growth_gpus=9, growth_w=900.0, clock_w=300.0, cap_mhz=1560)
    assert whole.part(2) == Allowance(4, 450.0, 150.0, 1560)
    assert whole.part(1) is whole
    assert watts.UNLIMITED.part(3) == watts.UNLIMITED


@pytest.mark.parametrize(
    ("low_mhz", "high_mhz", "low_w"),
    [(None, None, 1000), (1785, None, 3000), (1560, 1830, 1000)],
    ids=["nobody is capped", "low is", "both are"],
)
def test_growth_of_high_priority_has_the_high_line_and_capped_low_has_it_too(
    low_mhz: float | None, high_mhz: float | None, low_w: float
) -> None:
    known = headroom.by_name((domain("a", 5000, low_mhz=low_mhz, high_mhz=high_mhz),))
    assert watts.growth_left_w("a", known, Priority.LOW) == pytest.approx(low_w)
    assert watts.growth_left_w("a", known, Priority.HIGH) == pytest.approx(3000)


def test_an_ancestor_that_caps_high_priority_lets_nobody_grow() -> None:
    row = dataclasses.replace(domain("row", 9000), low_mhz=1560, high_mhz=1830)
    known = headroom.by_name((row, dataclasses.replace(domain("a", 9000), parent="row"), domain("b", 9000)))
    assert [headroom.grows(name, known) for name in "ab"] == [False, True]
