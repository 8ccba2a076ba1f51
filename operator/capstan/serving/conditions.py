"""Conditions of a ServingPolicy: the closed list of types, and how a new one follows an old one.

Who calls it: `status`, `actuate`, `observe`. `lastTransitionTime` moves only when the status does, so an unchanged
world writes an unchanged list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from capstan.api import status
from capstan.model.reasons import Reason
from capstan.serving import manifest
from capstan.serving.manifest import Manifest


class Type(StrEnum):
    """What a condition is about. True is good except for the last six, where it is news."""

    READY = "Ready"
    ENGINE_READY = "EngineReady"
    TARGET_FOUND = "TargetFound"
    METRICS_AVAILABLE = "MetricsAvailable"
    PROFILE_READY = "ProfileReady"
    SLO_MET = "SLOMet"
    SLO_FEASIBLE = "SLOFeasible"
    PRIORITY_GRANTED = "PriorityGranted"
    SPEC_FOLLOWED = "SpecFollowed"
    PROGRESSING = "Progressing"
    POWER_CONSTRAINED = "PowerConstrained"
    CONTROLLER_CONFLICT = "ControllerConflict"
    PAUSED = "Paused"
    FORECAST_DRIFT = "ForecastDrift"
    PROFILE_DRIFT = "ProfileDrift"


GOOD_WHEN_TRUE = frozenset(Type) - {
    Type.PROGRESSING,
    Type.POWER_CONSTRAINED,
    Type.CONTROLLER_CONFLICT,
    Type.PAUSED,
    Type.FORECAST_DRIFT,
    Type.PROFILE_DRIFT,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One finding; `holds` None is `Unknown`."""

    type: Type
    holds: bool | None
    reason: Reason
    message: str = ""

    @property
    def bad(self) -> bool:
        """Return whether a person should look at it."""
        if self.type is Type.PROGRESSING:
            return False
        return self.holds is not None and self.holds is not (self.type in GOOD_WHEN_TRUE)

    @property
    def word(self) -> str:
        """Return `True`, `False` or `Unknown`."""
        return {True: "True", False: "False", None: "Unknown"}[self.holds]


def merged(
    before: tuple[Manifest, ...], now: Iterable[Condition], *, generation: int, now_s: float
) -> list[dict[str, object]]:
    """Return the `metav1.Condition` list of `now`, keeping each transition time whose status did not change."""
    fresh = (
        status.condition(
            c.type.value, holds=c.holds, reason=c.reason.value, message=c.message, generation=generation, now_s=now_s
        )
        for c in now
    )
    return status.following(before, fresh)


def transitions(before: tuple[Manifest, ...], now: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the conditions that are worth an Event: what turned bad, and what recovered from bad.

    Starting, draining and not knowing yet are daily life; they are in the list and make no noise.
    """
    known = {manifest.text(c, "type"): (c.get("status"), c.get("reason")) for c in before}
    return tuple(c for c in now if _is_news(c, *known.get(c.type, (None, None))))


def _is_news(now: Condition, status_before: object, reason_before: object) -> bool:
    if now.type is Type.PROGRESSING or now.holds is None or now.reason in (Reason.STARTING, Reason.PENDING):
        return False
    if now.bad:
        return (status_before, reason_before) != (now.word, now.reason.value)
    return status_before is not None and status_before not in (now.word, "Unknown")
