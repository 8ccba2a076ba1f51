"""Whether a cap is in force, and when a GPU may leave the safe setting: a board with faults, second by second."""

from __future__ import annotations

import pytest

from capstan.agent import joining
from capstan.agent.joining import Held, Verified
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import SafeSetting

SAFE = SafeSetting(1110, 400)


def gpu(clock_mhz: float | None = 1110, limit_w: float | None = 400) -> GpuSample:
    return GpuSample(0, "a", 300, 1, clock_mhz, limit_w, 200, 700)


def held(
    clock_mhz: float | None = 1110, limit_w: float | None = 400, *, at_s: float = 0.0, joined: bool = False
) -> Held:
    made = Held(joined=joined)
    made.told_clock(clock_mhz, clock_mhz, at_s)
    made.told_limit(limit_w, at_s)
    return made


@pytest.mark.parametrize(
    ("clock_mhz", "sampled_s", "said"),
    [
        pytest.param(1110, 2, True, id="at the cap, as a busy GPU is"),
        pytest.param(1095, 2, True, id="one step below"),
        pytest.param(1125, 2, True, id="one step above, which is how it settles"),
        pytest.param(1126, 2, False, id="more than a step above"),
        pytest.param(345, 2, None, id="idle: proves nothing"),
        pytest.param(1980, 1.9, None, id="still switching"),
        pytest.param(None, 2, None, id="unreadable"),
    ],
)
def test_a_clock_is_judged_by_its_effect(clock_mhz: float | None, sampled_s: float, said: bool | None) -> None:
    assert joining.verified(gpu(clock_mhz), held(), sampled_s).clock is said


@pytest.mark.parametrize(
    ("limit_w", "sampled_s", "said"),
    [
        pytest.param(400, 1, True, id="ours"),
        pytest.param(350, 1, True, id="somebody's lower one"),
        pytest.param(401.5, 1, False, id="looser"),
        pytest.param(None, 1, None, id="unreadable"),
        pytest.param(700, 0, None, id="a sample from before the write"),
    ],
)
def test_a_limit_is_judged_by_the_enforced_one(limit_w: float | None, sampled_s: float, said: bool | None) -> None:
    assert joining.verified(gpu(limit_w=limit_w), held(), sampled_s).limit is said


def test_without_a_cap_there_is_nothing_to_verify() -> None:
    assert joining.verified(gpu(1980, 700), held(None, None), 9) == Verified(None, None)


def test_a_proof_lasts_while_the_cap_does_and_no_longer() -> None:
    one = held()
    joining.lost(one, joining.verified(gpu(1110), one, 2), forgot=False)
    assert joining.verified(gpu(345), one, 3).clock is True, "busy once, idle now: the lock is still there"
    one.told_clock(1560, 1560, 4)
    assert joining.verified(gpu(345), one, 9).clock is None


class Play:
    """One GPU under a safe setting: a sample a second, and what `cycle` would do with it."""

    def __init__(self) -> None:
        self.held, self.now_s = held(), 0.0

    def see(self, clock_mhz: float | None, limit_w: float | None, *, forgot: bool = False) -> str:
        """Take one sample; while the GPU is outside it is told the safe setting."""
        self.now_s += 1
        seen = joining.verified(gpu(clock_mhz, limit_w), self.held, self.now_s)
        problem = joining.lost(self.held, seen, forgot=forgot)
        joining.join(self.held, seen, SAFE, self.now_s)
        wanted = (None, None) if self.held.joined else (1110.0, 400.0)
        self.held.told_clock(wanted[0], wanted[0], self.now_s)
        self.held.told_limit(wanted[1], self.now_s)
        return problem

    def joined(self, *looks: tuple[float | None, float | None]) -> list[bool]:
        """Take samples; return after which the GPU was in."""
        return [bool([self.see(*look), self.held.joined][1]) for look in looks]


def test_a_gpu_joins_after_its_limit_was_read_back_and_its_clock_had_time_to_settle() -> None:
    assert Play().joined((345, 400), (345, 400), (345, 700)) == [False, True, True]


@pytest.mark.parametrize("limit_w", [700, None], ids=["the stock limit", "unreadable"])
def test_a_limit_that_cannot_be_read_back_keeps_it_outside(limit_w: float | None) -> None:
    assert not any(Play().joined(*[(345, limit_w)] * 20))


def test_a_lock_without_effect_keeps_it_outside_until_the_clock_is_at_its_cap() -> None:
    """Idle is no proof for a GPU that was seen above its cap."""
    play = Play()
    assert not any(play.joined(*[(1980, 400)] * 5, *[(345, 400)] * 5))
    assert play.joined((1110, 400)) == [True]


@pytest.mark.parametrize(
    ("look", "forgot", "words"),
    [((345, 700), True, "forgot"), ((345, 700), False, ""), ((345, 400), True, "forgot")],
    ids=["a reset", "nothing: no limit of ours is set on a joined GPU", "a reset that the limit does not show"],
)
def test_a_reset_puts_it_outside_again(look: tuple[float, float], forgot: bool, words: str) -> None:
    play = Play()
    play.joined((345, 400), (345, 400))
    assert words in play.see(*look, forgot=forgot)
    assert play.held.joined is not forgot
    assert play.joined(*[(345, 400)] * 4)[-1], "and it joins again"


def test_a_node_that_is_not_armed_has_nothing_to_join() -> None:
    one = held(joined=True)
    joining.join(one, Verified(None, True), None, 9)
    assert not one.joined
