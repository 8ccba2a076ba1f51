"""Four simple views of a coming slot, each right at times: they are weighed by how well each did of late.

last     the load stays what it was in the last slot; right for a slot ahead, and in a burst
steady   it stays what it was in the last three; right on a flat and noisy load
shaped   it follows the template from where it stands now, and falls back to the level of the day as time goes on
usual    it follows the template at the level of the day; right when the last slots were an accident

Who calls it: `forecast.track`. Must not know: which of them is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.forecast.template import Template
from capstan.model.outlook import Views

SHAPED = 2

RECENT_WEIGHTS = (1.0, 2.0, 3.0)
"""Weights of the last closed slots, the newest last: they halve the variance of counting."""

FALL_BACK_DAY_RATIO = 1 / 9
"""A departure from the day's level fades with this time constant, 2.7 h of a day: on the conversation week the ratio of
load over template correlates by about 0.85 over 30 minutes (exp(-0.5 / 2.7) = 0.83)."""

MOST_RATIO = 4.0
"""A level further than this from the template's says that the template knows nothing of this load; `steady` does."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment as all views of it see it: the last slots, and how many times the template they and the day were."""

    last_slot: int
    last_rps: float
    steady_rps: float
    level_ratio: float | None
    day_level_ratio: float


def level(template: Template, recent: tuple[float | None, ...], last_slot: int) -> float | None:
    """Return how many times the template the last closed slots were, held to `MOST_RATIO`; None: nothing to compare.

    A request a slot is added on both sides, so that an empty night divides, too.
    """
    one = 1 / template.calendar.slot_s
    real_rps = usual_rps = 0.0
    for back, (weight, rate) in enumerate(zip(reversed(RECENT_WEIGHTS), reversed(recent), strict=False)):
        usual = template.at(last_slot - back)
        if rate is not None and usual is not None:
            real_rps += weight * (rate + one)
            usual_rps += weight * (usual + one)
    return min(max(real_rps / usual_rps, 1 / MOST_RATIO), MOST_RATIO) if usual_rps > 0 else None


def of(template: Template, seen: Seen, lead_slots: int) -> Views:
    """Return the views of the slot `lead_slots` after the last, in requests a second; None: it has nothing to say."""
    usual = template.at(seen.last_slot + lead_slots)
    if usual is None or seen.level_ratio is None:
        return seen.last_rps, seen.steady_rps, None, None
    calendar = template.calendar
    one = 1 / calendar.slot_s
    fade = (1 - min(1 / (FALL_BACK_DAY_RATIO * calendar.slots_per_day), 1.0)) ** lead_slots
    then = seen.day_level_ratio * (seen.level_ratio / seen.day_level_ratio) ** fade
    shaped, plain = (usual + one) * then - one, (usual + one) * seen.day_level_ratio - one
    return seen.last_rps, seen.steady_rps, max(shaped, 0.0), max(plain, 0.0)


def seen(template: Template, recent: tuple[float | None, ...], last_slot: int, *, day_level_ratio: float) -> Seen:
    """Return what all views of a moment share.

    Args:
        template: The typical week, perhaps empty.
        recent: Rates of the last slots, the newest last and known.
        last_slot: The slot of the newest.
        day_level_ratio: How many times the template the last hours were.
    """
    last = recent[-1]
    if last is None:
        raise ValueError("the newest slot is known, or there is nothing to say")
    known = [(w, r) for w, r in zip(reversed(RECENT_WEIGHTS), reversed(recent), strict=False) if r is not None]
    steady = sum(w * r for w, r in known) / sum(w for w, _ in known)
    return Seen(last_slot, last, steady, level(template, recent, last_slot), day_level_ratio)
