"""The law of a power domain, in numbers: one tick of POLCA's machine (facts/polca.md 5.2 and 5.3).

Who calls it: `step`, every second on live samples; `replay.row`, which compiles this very module and runs it through
weeks. So: plain functions over numbers and named tuples, positional arguments, no None (NaN stands for "not").
Must not know: watts, nodes, agents.

Up at once, levels may be skipped; down one level after a dwell in which every node was heard and every sample lay under
the release line. Safe direction when blind: keep the budget. POLCA's other policies are settings of this machine: `top`
is the highest level below Brake, and a domain whose two thresholds are one has no LowBase.
"""

from __future__ import annotations

import math
from typing import NamedTuple

NORMAL, LOW_BASE, LOW_DEEP, HIGH_CAP, BRAKE, FAIL_SAFE, DISARMED = range(7)
"""The levels, as `domains.Level` lists them."""

BELOW, ABOVE_LOW, ABOVE_HIGH, ABOVE_BRAKE, RELEASED, COOLING, LOST, UNSAFE, OFF = range(9)
"""Why: an index into `step.WHY`."""

HARD_BRAKE_S = 2.0  # facts/polca.md 5.3: low priority first, high if still at the brake's threshold after 2 s
BEYOND_S = 5.0  # facts/polca.md 5.3: Brake did not help for so long, somebody else must act
MAX_DOUBLINGS = 16  # far past `dwell_max_s` for any dwell: keeps the power of two finite after years of re-trips


class Law(NamedTuple):
    """Thresholds as shares of the budget, and timers (`domains.Thresholds`, `domains.Timers`); `name` is a hash."""

    low_ratio: float
    high_ratio: float
    brake_ratio: float
    hysteresis_ratio: float
    settle_s: float
    dwell_s: float
    brake_hold_s: float
    stale_s: float
    fail_safe_dwells: int
    retrip_s: float
    dwell_max_s: float
    spread_ratio: float
    top: int
    name: int


class State(NamedTuple):
    """What the next tick must know.

    Attributes:
        level, since_s: The level, and when it was entered.
        calm_since_s: Since when every sample lay under the release line; NaN: the last one did not.
        seen_s: When the last tick was; NaN: this is the first.
        floor: The level in force when the domain went blind: FailSafe never loosens it.
        released_s: When a level was last released; NaN: not since the start.
        retrips: How often a cap came back soon after its release; each doubles the dwell.
        confirmed_s: Since when the caps of this level are known to be in force; NaN: they are not yet.
        over_s: Since when Brake has not brought the draw below the budget; NaN: it has.
        hard: Whether Brake holds high priority, too.
        braked_s: When Brake was last released; NaN: not since the start.
        rebrakes: How often Brake came back soon after its release; each doubles its hold.
    """

    level: int
    since_s: float
    calm_since_s: float
    seen_s: float
    floor: int
    released_s: float
    retrips: int
    confirmed_s: float
    over_s: float
    hard: bool
    braked_s: float
    rebrakes: int


class Seen(NamedTuple):
    """One tick's reading.

    Attributes:
        ratio: Projected draw over the budget, silent nodes at their worst case.
        heard_ratio: The same of the nodes that were heard, alone.
        whole: Every node was heard.
        blind: Too many were not.
        unsafe: The safe setting no longer fits the budget.
        armed: Caps may be written.
        confirmed: Every cap that was sent is known to be in force.
    """

    ratio: float
    heard_ratio: float
    whole: bool
    blind: bool
    unsafe: bool
    armed: bool
    confirmed: bool


def advance(law: Law, state: State, seen: Seen, now_s: float) -> tuple[State, int]:
    """Return the state after one tick, and why."""
    level, why = judged(law, state, seen, calm_since_s(law, state, seen, now_s), now_s)
    return moved(law, state, seen, level, now_s), why


def judged(law: Law, state: State, seen: Seen, calm_s: float, now_s: float) -> tuple[int, int]:
    """Return the level of this tick, and why."""
    if not seen.armed:
        return DISARMED, OFF
    if seen.unsafe:
        return BRAKE, UNSAFE
    if seen.blind:  # what was heard may be enough to brake on; the rest is a guess and only fails safe
        heard = seen.heard_ratio >= law.brake_ratio
        return (BRAKE, ABOVE_BRAKE) if heard else (FAIL_SAFE, LOST)
    wanted = demanded(law, seen.ratio)
    if state.level == FAIL_SAFE:
        return leaving_fail_safe(law, state, wanted, calm_s, now_s)
    return on_ladder(law, state, seen, wanted, calm_s, now_s)


def demanded(law: Law, ratio: float) -> int:
    """Return the level that a draw alone asks for, at once."""
    if ratio >= law.brake_ratio:
        return BRAKE
    if ratio >= law.high_ratio:
        return min(LOW_DEEP, law.top)
    if ratio >= law.low_ratio:
        return min(LOW_BASE, law.top)
    return NORMAL


def leaving_fail_safe(law: Law, state: State, wanted: int, calm_s: float, now_s: float) -> tuple[int, int]:
    """Leave FailSafe for the ladder's upper half, from where it steps down as always."""
    if wanted == BRAKE:
        return BRAKE, ABOVE_BRAKE
    if not dwelt(law, state, calm_s, now_s):
        return FAIL_SAFE, LOST
    return max(min(HIGH_CAP, law.top), state.floor), RELEASED


def on_ladder(law: Law, state: State, seen: Seen, wanted: int, calm_s: float, now_s: float) -> tuple[int, int]:
    """Go up at once, on to HighCap when LowDeep was not enough, down one level after the dwell."""
    current = NORMAL if state.level == DISARMED else state.level
    if wanted > current:
        return wanted, reason_of(wanted)
    if current == LOW_DEEP and wanted == LOW_DEEP and law.top >= HIGH_CAP and exhausted(law, state, now_s):
        return HIGH_CAP, ABOVE_HIGH
    if current != NORMAL and dwelt(law, state, calm_s, now_s):
        return one_down(law, current), RELEASED
    if wanted == current or (current == HIGH_CAP and wanted == LOW_DEEP):
        return current, reason_of(current)
    return current, COOLING if seen.whole else LOST


def reason_of(level: int) -> int:
    """Return why a domain is held at a level that its draw asks for."""
    if level == BRAKE:
        return ABOVE_BRAKE
    return min(level, ABOVE_HIGH)


def exhausted(law: Law, state: State, now_s: float) -> bool:
    """Return whether the deep cap of low priority has had its time.

    Confirmed for `settle_s`; or unconfirmed for twice that, in which time a cap that works would have been confirmed:
    what cannot be shed is shed elsewhere.
    """
    confirmed = not math.isnan(state.confirmed_s) and now_s - state.confirmed_s >= law.settle_s
    return confirmed or now_s - state.since_s >= 2 * law.settle_s


def one_down(law: Law, level: int) -> int:
    """Return the next gentler level."""
    below = min(level - 1, law.top)
    return NORMAL if below == LOW_BASE and law.low_ratio >= law.high_ratio else below


def calm_since_s(law: Law, state: State, seen: Seen, now_s: float) -> float:
    """Return since when every sample lay under the release line of the level, NaN where this one does not."""
    entered_now = state.seen_s == now_s and state.since_s == now_s  # calm counts from the tick after
    if not seen.whole or seen.ratio >= release_ratio(law, state, now_s) or entered_now:
        return math.nan
    paused = now_s - state.seen_s > law.stale_s  # False where `seen_s` is NaN
    return now_s if math.isnan(state.calm_since_s) or paused else state.calm_since_s


def release_ratio(law: Law, state: State, now_s: float) -> float:
    """Return the share of the budget below which a level may be released."""
    level = state.level
    if level == LOW_BASE:
        return law.low_ratio - law.hysteresis_ratio
    if level in (LOW_DEEP, HIGH_CAP):
        return law.high_ratio - law.hysteresis_ratio
    if level == BRAKE:
        return brake_release_ratio(law, state, now_s)
    return math.inf  # FailSafe asks only that every node is heard


def brake_release_ratio(law: Law, state: State, now_s: float) -> float:
    """Return the same for Brake: its own line less the hysteresis, for HighCap holds whatever lies below that line.

    What HighCap would draw cannot be seen from within Brake; a release tries it. The soft brake was entered inside the
    budget and may be tried. What the hard one halts may be more than the budget has left: it is tried where so little
    is drawn that high priority could be free, and above that only after the longest dwell. Staying would be for ever.
    """
    if state.hard and now_s - state.since_s < law.dwell_max_s:
        return law.high_ratio
    return max(law.brake_ratio - law.hysteresis_ratio, law.high_ratio)


def dwelt(law: Law, state: State, calm_s: float, now_s: float) -> bool:
    """Return whether the level may be released."""
    return not math.isnan(calm_s) and now_s - max(calm_s, state.since_s) >= wait_s(law, state)


def wait_s(law: Law, state: State) -> float:
    """Return the wait before a level is released: its timer, backed off and spread."""
    times = state.rebrakes if state.level == BRAKE else state.retrips
    if state.level == BRAKE:
        base_s = backed_off_s(law, law.brake_hold_s, times)
    elif state.level == FAIL_SAFE:
        base_s = law.fail_safe_dwells * law.dwell_s
    else:
        base_s = backed_off_s(law, law.dwell_s, times)
    return base_s * (1 + law.spread_ratio * share(law.name, state.level, times))


def backed_off_s(law: Law, base_s: float, times: int) -> float:
    """Return a wait, doubled for each time that a release did not last."""
    return min(base_s * 2.0 ** min(times, MAX_DOUBLINGS), max(law.dwell_max_s, base_s))


def share(name: int, level: int, retrips: int) -> float:
    """Return a share in [0, 1) by multiplicative hashing (Knuth): not random, so a tick decides the same again."""
    mixed = ((name ^ (level * 0x9E37 + retrips * 0x85EB)) * 2654435761) & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return ((mixed * 2246822519) & 0xFFFFFFFF) / 4294967296.0


def moved(law: Law, state: State, seen: Seen, level: int, now_s: float) -> State:
    """Return the state after the verdict: timers go on where the level stays, begin anew where it moves."""
    stays = level == state.level
    calm_s = calm_since_s(law, state, seen, now_s) if stays else math.nan
    since_s = state.since_s if stays else now_s
    known_s = state.confirmed_s if stays and not math.isnan(state.confirmed_s) else now_s
    confirmed_s = known_s if seen.confirmed else math.nan
    over = level == BRAKE and seen.ratio >= 1.0
    began_s = now_s if math.isnan(state.over_s) else state.over_s
    hard = level == BRAKE and is_hard(law, state, seen, now_s)
    floor, released_s, retrips = (
        (state.floor, state.released_s, state.retrips) if stays else history(law, state, level, now_s)
    )
    braked_s, rebrakes = (state.braked_s, state.rebrakes) if stays else brakes(law, state, level, now_s)
    return State(
        level, since_s, calm_s, now_s, floor, released_s, retrips, confirmed_s, began_s if over else math.nan, hard,
        braked_s, rebrakes,
    )  # fmt: skip


def is_hard(law: Law, state: State, seen: Seen, now_s: float) -> bool:
    """Return whether Brake holds high priority, too: at once at the budget, else after low priority had its time."""
    if seen.unsafe or seen.ratio >= 1.0 or seen.heard_ratio >= 1.0 or state.level == FAIL_SAFE:
        return True  # FailSafe may have held high priority as hard as Brake does
    if state.level != BRAKE:
        return False
    return state.hard or (seen.ratio >= law.brake_ratio and now_s - state.since_s >= HARD_BRAKE_S)


def history(law: Law, state: State, level: int, now_s: float) -> tuple[int, float, int]:
    """Return (floor, released_s, retrips) after a move to another level."""
    ladder = state.level <= BRAKE
    if level == FAIL_SAFE:
        return (state.level if ladder else NORMAL), state.released_s, state.retrips
    if level == DISARMED or not ladder:
        return state.floor, math.nan, 0
    if level < state.level:
        return state.floor, now_s, state.retrips
    if math.isnan(state.released_s):
        return state.floor, math.nan, state.retrips
    again = now_s - state.released_s <= law.retrip_s
    return state.floor, math.nan, state.retrips + 1 if again else 0


def brakes(law: Law, state: State, level: int, now_s: float) -> tuple[float, int]:
    """Return (braked_s, rebrakes) after a move to another level."""
    if level == BRAKE:
        again = not math.isnan(state.braked_s) and now_s - state.braked_s <= law.retrip_s
        return state.braked_s, state.rebrakes + 1 if again else 0
    if state.level == BRAKE and level < BRAKE:
        return now_s, state.rebrakes
    return (math.nan, 0) if level == DISARMED else (state.braked_s, state.rebrakes)


def beyond(state: State, now_s: float) -> bool:
    """Return whether Brake itself has not been enough for `BEYOND_S`."""
    return state.level == BRAKE and not math.isnan(state.over_s) and now_s - state.over_s >= BEYOND_S
