"""Conditions of a ServingPolicy: the closed list of types, and how a new one follows an old one.

Who calls it: `status`, `actuate`, `observe`. `lastTransitionTime` moves only when the status does, so an unchanged
world writes an unchanged list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from capstan.model.reasons import Reason
from capstan.serving import manifest
from capstan.serving.manifest import Manifest

MESSAGE_CHARS = 1024  # a condition is a sentence; the API allows 32 KiB and nobody reads them


class Type(StrEnum):
    """What a condition is about. True is good except for the last four, where it is news."""

    READY = "Ready"
    ENGINE_READY = "EngineReady"
    TARGET_FOUND = "TargetFound"
    METRICS_AVAILABLE = "MetricsAvailable"
    PROFILE_READY = "ProfileReady"
    SLO_MET = "SLOMet"
    PRIORITY_GRANTED = "PriorityGranted"
    PROGRESSING = "Progressing"
    POWER_CONSTRAINED = "PowerConstrained"
    CONTROLLER_CONFLICT = "ControllerConflict"
    PAUSED = "Paused"


GOOD_WHEN_TRUE = frozenset(Type) - {
    Type.PROGRESSING,
    Type.POWER_CONSTRAINED,
    Type.CONTROLLER_CONFLICT,
    Type.PAUSED,
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
    known = {manifest.text(c, "type"): c for c in before}
    return [_raw(known.get(c.type, manifest.EMPTY), c, generation, now_s) for c in now]


def transitions(before: tuple[Manifest, ...], now: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the conditions whose status or reason differs from before; a new good one is no news."""
    known = {manifest.text(c, "type"): (c.get("status"), c.get("reason")) for c in before}
    return tuple(c for c in now if known.get(c.type) != (c.word, c.reason.value) and (c.type in known or c.bad))


def rfc3339(now_s: float) -> str:
    """Return a time as Kubernetes writes it, whole seconds, UTC."""
    return datetime.fromtimestamp(int(now_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _raw(before: Manifest, now: Condition, generation: int, now_s: float) -> dict[str, object]:
    same = before.get("status") == now.word
    since = manifest.text(before, "lastTransitionTime") if same else ""
    return {
        "type": now.type.value,
        "status": now.word,
        "reason": now.reason.value,
        "message": now.message[:MESSAGE_CHARS],
        "observedGeneration": generation,
        "lastTransitionTime": since or rfc3339(now_s),
    }
