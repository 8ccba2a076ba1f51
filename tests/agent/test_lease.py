"""What a node may run at, and until when."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.agent import lease
from capstan.agent.ports import PlannedClock, Pod
from capstan.powercap.domains import NO_CAPS, ClassCaps, SafeSetting

CHAT, BATCH, OTHER = Pod("llm", "chat-1"), Pod("llm", "batch-1"), Pod("llm", "other-1")
SAFE = SafeSetting(1110, 400)
OPTIONAL_MHZ = st.none() | st.floats(210, 1980)


def granted(
    epoch: int = 1, sequence: int = 1, caps: ClassCaps = NO_CAPS, high: frozenset[Pod] = frozenset({CHAT})
) -> lease.Granted:
    return lease.Granted(epoch, sequence, caps, high, SAFE)


def renewal(epoch: int = 1, sequence: int = 1, caps: ClassCaps = ClassCaps()) -> lease.Renewal:  # noqa: B008 - frozen
    return lease.Renewal(epoch, sequence, 4.0, caps)


def test_a_node_that_was_never_armed_holds_nothing() -> None:
    assert lease.wanted(lease.Lease(), (CHAT,), now_s=1e6) == lease.Wanted()


def test_an_armed_node_starts_in_its_safe_setting_until_the_first_renewal() -> None:
    held = lease.granted(lease.Lease(), granted())
    assert lease.wanted(held, (CHAT,), 100.0) == lease.Wanted(1110, 400)
    held = lease.renewed(held, renewal(), 100.0)
    assert lease.wanted(held, (CHAT,), 100.0) == lease.Wanted()


def test_without_a_renewal_for_the_lease_the_safe_setting_holds() -> None:
    """4 s: at 103.9 s the lease of 100 s still stands, at 104.1 s it does not."""
    held = lease.renewed(lease.granted(lease.Lease(), granted()), renewal(), 100.0)
    assert lease.wanted(held, (BATCH,), 103.9) == lease.Wanted()
    assert lease.wanted(held, (BATCH,), 104.1) == lease.Wanted(1110, 400)
    assert lease.wanted(lease.renewed(held, renewal(), 105.0), (BATCH,), 105.0) == lease.Wanted()


def test_low_and_high_have_their_own_caps_and_an_idle_gpu_is_low() -> None:
    held = lease.renewed(lease.granted(lease.Lease(), granted(caps=ClassCaps(1560, 1830))), renewal(), 0.0)
    assert [lease.wanted(held, pods, 0.0).clock_mhz for pods in ((BATCH,), (CHAT,), ())] == [1560, 1830, 1560]


def test_the_tighter_of_plan_and_cap_wins() -> None:
    plan = (PlannedClock(BATCH, 1200), PlannedClock(CHAT, 1900))
    held = dataclasses.replace(lease.granted(lease.Lease(), granted(caps=ClassCaps(1560, 1830))), plan=plan)
    held = lease.renewed(held, renewal(), 0.0)
    assert [lease.wanted(held, (pod,), 0.0).clock_mhz for pod in (BATCH, CHAT)] == [1200, 1830]


SHARED = [
    pytest.param((BATCH, OTHER), 1560, id="two low pods: the low cap, not the higher plan"),
    pytest.param((BATCH, CHAT), 1830, id="one of them is high: its cap and its plan"),
    pytest.param((BATCH,), 1200, id="alone: its own plan"),
    pytest.param((BATCH, Pod("x", "stranger")), 1560, id="a pod that nobody plans is slowed by no plan"),
    pytest.param((), 1560, id="idle: low, without a plan"),
]


@pytest.mark.parametrize(("pods", "clock_mhz"), SHARED)
def test_a_shared_gpu_runs_as_its_most_demanding_pod_needs(pods: tuple[Pod, ...], clock_mhz: float) -> None:
    """Plans: batch 1200, other 1700, chat 1900 MHz; caps: low 1560, high 1830. min(max of plans, cap of the class)."""
    plan = (PlannedClock(BATCH, 1200), PlannedClock(OTHER, 1700), PlannedClock(CHAT, 1900))
    held = dataclasses.replace(lease.granted(lease.Lease(), granted(caps=ClassCaps(1560, 1830))), plan=plan)
    held = lease.renewed(held, renewal(), 0.0)
    assert lease.wanted(held, pods, 0.0).clock_mhz == clock_mhz
    assert lease.wanted(held, tuple(reversed(pods)), 0.0).clock_mhz == clock_mhz


def test_a_shared_gpu_is_told_under_its_high_pod_whatever_the_order() -> None:
    held = lease.granted(lease.Lease(), granted())
    assert [lease.foremost(held, pods) for pods in ((BATCH, CHAT), (CHAT, BATCH), (OTHER, BATCH), ())] == [
        CHAT, CHAT, BATCH, None,
    ]  # fmt: skip


def test_a_gpu_that_has_not_joined_is_in_the_safe_setting_under_a_valid_lease() -> None:
    held = lease.renewed(lease.granted(lease.Lease(), granted(caps=ClassCaps(700))), renewal(), 0.0)
    assert lease.wanted(held, (CHAT,), 0.0, joined=False) == lease.Wanted(1110, 400)
    assert lease.wanted(held, (BATCH,), 0.0, joined=False) == lease.Wanted(700, 400), "it only tightens"
    assert lease.wanted(lease.Lease(), (CHAT,), 0.0, joined=False) == lease.Wanted(), "nobody armed this node"


def test_a_renewal_tightens_at_once_and_only_a_nodecap_loosens() -> None:
    held = lease.renewed(lease.granted(lease.Lease(), granted()), renewal(sequence=2, caps=ClassCaps(1560)), 0.0)
    assert held.caps.low_mhz == 1560
    held = lease.renewed(held, renewal(sequence=3), 1.0)
    assert held.caps.low_mhz == 1560
    assert lease.granted(held, granted(sequence=2)).caps.low_mhz == 1560, "an older NodeCap loosens nothing"
    assert lease.granted(held, granted(sequence=3)).caps.low_mhz is None


@pytest.mark.parametrize(("epoch", "sequence"), [(1, 9), (2, 4)], ids=["a controller of yesterday", "an older call"])
def test_what_is_older_is_refused(epoch: int, sequence: int) -> None:
    held = lease.renewed(lease.Lease(), renewal(epoch=2, sequence=5), 0.0)
    with pytest.raises(lease.Outdated, match="older than 2 and 5"):
        lease.renewed(held, renewal(epoch=epoch, sequence=sequence), 1.0)


def test_a_nodecap_that_vanishes_takes_no_cap_away() -> None:
    held = lease.granted(lease.Lease(), granted(caps=ClassCaps(1560)))
    assert lease.granted(held, None) == held


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), OPTIONAL_MHZ), max_size=12))
def test_no_order_of_renewals_loosens(calls: list[tuple[int, int, float | None]]) -> None:
    """Invariant I10: reordered, duplicated or late calls never end looser than the tightest that was accepted."""
    held = lease.Lease()
    for epoch, sequence, low_mhz in calls:
        try:
            after = lease.renewed(held, renewal(epoch, sequence, ClassCaps(low_mhz)), 0.0)
        except lease.Outdated:
            continue
        if held.caps.low_mhz is not None:
            assert after.caps.low_mhz is not None
            assert after.caps.low_mhz <= held.caps.low_mhz
        held = after


@given(OPTIONAL_MHZ, OPTIONAL_MHZ, st.floats(0, 20))
def test_being_alone_never_loosens(low_mhz: float | None, planned_mhz: float | None, now_s: float) -> None:
    """Invariant I5: the safe setting may only tighten what is in force."""
    plan = () if planned_mhz is None else (PlannedClock(BATCH, planned_mhz),)
    held = dataclasses.replace(lease.granted(lease.Lease(), granted(caps=ClassCaps(low_mhz))), plan=plan)
    held = lease.renewed(held, renewal(), 0.0)
    leased, alone = lease.wanted(held, (BATCH,), 0.0), lease.wanted(held, (BATCH,), 4.0 + now_s)
    assert alone.clock_mhz is not None
    assert leased.clock_mhz is None or alone.clock_mhz <= leased.clock_mhz


def test_a_grant_is_the_same_limit_with_a_leader_without_one_and_before_one() -> None:
    """Its NodeCap names the limit as cap and as safe setting, whose clock caps nothing: grants do not expire."""
    limit = SafeSetting(10_000, 532)
    held = lease.granted(lease.Lease(), lease.Granted(1, 1, ClassCaps(power_limit_w=532), frozenset(), limit))
    assert lease.wanted(held, (CHAT,), 0.0).limit_w == 532, "before the first renewal"
    held = lease.renewed(held, renewal(), 0.0)
    assert lease.wanted(held, (CHAT,), 1.0) == lease.Wanted(None, 532)
    assert lease.wanted(held, (CHAT,), 100.0) == lease.Wanted(10_000, 532)
    assert lease.wanted(held, (CHAT,), 1.0, joined=False).limit_w == 532, "a GPU that forgot"


def test_a_renewal_is_no_nodecap_that_was_taken() -> None:
    """What frees watts is the NodeCap that a restart would find again, not a call that is lost with the process."""
    held = lease.granted(lease.Lease(), granted(sequence=3))
    held = lease.renewed(held, renewal(sequence=9, caps=ClassCaps(power_limit_w=300)), 0.0)
    assert (held.sequence, held.taken) == (9, (1, 3))
    assert lease.granted(held, granted(sequence=8)).taken == (1, 3), "older than what was heard"
    assert lease.granted(held, granted(sequence=9)).taken == (1, 9)
