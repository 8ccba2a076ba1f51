"""What the past of each policy says of its load, made from it at most once a day, and one policy per cycle.

Who calls it: `cycle`, before it decides. To walk three days of slots takes half a second: with hundreds of policies
nobody may make them all in one cycle, so a restarted operator knows its policies again one after the other. Meanwhile
the others are decided by their last rates, as they are before Prometheus has answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capstan import decide
from capstan.forecast import known
from capstan.forecast.known import Known
from capstan.model.past import Past
from capstan.model.policy import Policy
from capstan.model.profile import Profile


@dataclass(frozen=True, slots=True)
class Asked:
    """One policy whose history is wanted: what its GPUs are, and what Prometheus remembers."""

    policy: Policy
    gpu_product: str | None
    past: Past | None


@dataclass(frozen=True, slots=True)
class Told:
    """A history and the past that it was made of: who decides again makes the one of the other."""

    past: Past
    known: Known


class Histories:
    """Keeps the history of every policy that is asked for."""

    def __init__(self, settings: decide.Settings) -> None:
        self._settings = settings
        self._told: dict[str, Told] = {}

    def of(self, asked: Iterable[Asked], profiles: tuple[Profile, ...]) -> tuple[Told, ...]:
        """Return what is known, after one policy's history was made anew where some are due.

        A policy that has none yet goes first. One whose horizon is another now has none until it is its turn.
        """
        wanted = {one.policy.key: one for one in asked if one.past is not None}
        self._told = {key: told for key, told in self._told.items() if key in wanted}
        slots = {key: self._slots(one, profiles) for key, one in wanted.items()}
        stale = {key for key, told in self._told.items() if told.known.tracker.horizon_slots != slots[key]}
        due = [key for key, one in wanted.items() if key in stale or self._due(one)]
        if due:
            key = min(due, key=lambda each: (each in self._told, each))
            past = wanted[key].past
            if past is not None:
                made = known.of_past(past, self._settings.calendar, horizon_slots=slots[key])
                self._told[key] = Told(past, made)
                stale.discard(key)
        return tuple(self._told[key] for key in wanted if key in self._told and key not in stale)

    def _slots(self, one: Asked, profiles: tuple[Profile, ...]) -> int:
        return decide.horizon_slots(one.policy, profiles, self._settings, gpu_product=one.gpu_product)

    def _due(self, one: Asked) -> bool:
        """Return whether a past has news: a day more, or anything at all while it is too short for a template."""
        told = self._told.get(one.policy.key)
        if told is None or one.past is None:
            return True
        if not told.known.tells:
            return one.past is not told.past
        return self._days(one.past) > self._days(told.past)

    def _days(self, past: Past) -> int:
        """Return how many days of the calendar are over at the end of a past."""
        calendar = self._settings.calendar
        last = past.blocks[-1]
        end_s = last.start_s + len(last.rates_rps) * last.step_s
        return (calendar.slot_before(end_s) + 1) // calendar.slots_per_day
