"""What a policy asks of power domains, and what its plan may do with the answer."""

from __future__ import annotations

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


def domain(name: str, left_w: float, *, low_mhz: float | None = None, free: int | None = None) -> DomainSeen:
    """20 kW at 80 % efficiency; low priority may grow below 16 kW."""
    return DomainSeen(
        name,
        20_000.0,
        Fresh(left_w, 1.0),
        low_ratio=0.8,
        high_ratio=0.9,
        supply_efficiency_ratio=0.8,
        low_mhz=low_mhz,
        free_gpus=free,
    )


def subject(*places: Place, gpus: int = 0, clock_w: float = 0.0, load: Workload | None = LOAD) -> Subject:
    asked = plan.PowerMemory(asked_gpus=gpus, asked_clock_w=clock_w)
    return Subject(policy(), service((), rate=1.0, places=places), TP4, load, asked)


BUSY_W = subject().busy_w


def test_a_busy_gpu_draws_between_idle_and_its_worst_case() -> None:
    """Of unknown requests the worst case is counted."""
    assert power.idle_w(TP4) < BUSY_W < power.worst_case_w(TP4, 1.0)
    assert subject(load=None).busy_w == power.worst_case_w(TP4, 1.0)


def test_growth_is_asked_for_where_most_watts_are_left() -> None:
    """Eight GPUs more; AC is DC over 0.8. The domain that is capped is not asked."""
    known = watts.ground((domain("a", 9000), domain("b", 18_000), domain("c", 19_000, low_mhz=1560)), Priority.LOW)
    found = {claim.domain: claim for claim in watts.claims(subject(Place("a", 4, 2), gpus=8), known)}
    assert set(found) == {"a", "b"}
    assert found["b"].growth_w == pytest.approx(8 * BUSY_W / 0.8)
    assert found["a"].growth_w == 0


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


def test_no_scale_out_into_a_capped_domain_nor_past_the_free_gpus_of_the_others() -> None:
    grants = tuple(Grant(CHAT, name, 0.0, 100 * BUSY_W) for name in "ab")
    known = (domain("a", 9000, low_mhz=1560, free=16), domain("b", 9000, free=7))
    assert allowed(*grants, domains=known, places=(Place("a", 4, 1),)).growth_gpus == 4


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


def test_growth_of_high_priority_has_the_high_line() -> None:
    known = headroom.by_name((domain("a", 5000),))
    assert watts.growth_left_w("a", known, Priority.LOW) == pytest.approx(1000)
    assert watts.growth_left_w("a", known, Priority.HIGH) == pytest.approx(3000)
