"""What a PowerDomain's status says, and when it is worth a write.

Who calls it: `cycle`. Written when state, arming or a condition changes; measured watts ride along, and alone only when
they moved by more than 5 %, at most once a minute (DESIGN 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capstan.api import status
from capstan.model.reasons import Reason
from capstan.power import tree
from capstan.power.ports import Document
from capstan.power.tree import Declared
from capstan.powercap.domains import Level, Step
from capstan.powercap.safety import Admission

ALONE_S = 60.0
MOVED_RATIO = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """One domain after one tick.

    Attributes:
        admission: None: nodes are not all known yet.
        advised: The level that an Advise domain would be in; None for one that asks to be armed.
    """

    declared: Declared
    step: Step
    armed: bool
    admission: Admission | None
    capped_gpus: int
    advised: Level | None = None


def level_before(raw: Document) -> Level | None:
    """Return the level that status holds, None where there is none."""
    found = raw.get("status")
    word = found.get("state") if isinstance(found, dict) else None
    return Level(word) if isinstance(word, str) and word in set(Level) else None


def built(verdict: Verdict, now_s: float) -> Document:
    """Return the whole status of a domain, transition times kept where nothing changed."""
    admission = verdict.admission
    made = status.domain_status(
        verdict.step,
        generation=verdict.declared.generation,
        capped_gpus=verdict.capped_gpus,
        safe_sum_w=None if admission is None else admission.safe_sum_w,
    )
    made["conditions"] = status.following(tree.conditions(verdict.declared.raw), _now(verdict, now_s))
    return made


def worth_writing(made: Document, raw: Document, *, since_s: float) -> bool:
    """Return whether `made` differs from what is stored in more than a few watts."""
    stored = raw.get("status")
    if not isinstance(stored, dict):
        return True
    if _said(made) != _said(stored):
        return True
    before, now = stored.get("projectedWatts"), made.get("projectedWatts")
    if not isinstance(before, int) or not isinstance(now, int):
        return before != now
    return since_s >= ALONE_S and abs(now - before) > MOVED_RATIO * max(before, 1)


def _said(document: Document) -> object:
    """Return the part of a status whose change is news."""
    conditions = document.get("conditions")
    listed = conditions if isinstance(conditions, list) else []
    words = [(c.get("type"), c.get("status"), c.get("reason"), c.get("message")) for c in listed]
    return document.get("state"), document.get("observedGeneration"), sorted(words, key=str)


def _now(verdict: Verdict, now_s: float) -> Iterable[dict[str, object]]:
    """Return the conditions of now. Messages hold no figure that moves every second."""
    step, generation = verdict.step, verdict.declared.generation

    def say(kind: str, holds: bool | None, reason: Reason, message: str = "") -> dict[str, object]:
        return status.condition(
            kind, holds=holds, reason=reason.value, message=message, generation=generation, now_s=now_s
        )

    capping = step.level not in (Level.NORMAL, Level.DISARMED)
    lost = f"no fresh watts from {', '.join(step.missing)}" if step.missing else ""
    yield say("Armed", verdict.armed, *_arming(verdict))
    yield say("Capping", capping, *_capping(verdict))
    yield say("MembersComplete", not step.missing, Reason.TELEMETRY_LOST if step.missing else Reason.FOUND, lost)
    within = step.utilisation_ratio <= 1
    yield say("WithinLimit", within, Reason.BELOW_THRESHOLDS if within else Reason.ABOVE_BRAKE_THRESHOLD)
    if verdict.declared.problem:
        yield say("Accepted", False, Reason.INVALID_SPEC, verdict.declared.problem)
    else:
        yield say("Accepted", True, Reason.APPLIED)


def _capping(verdict: Verdict) -> tuple[Reason, str]:
    """Return why a domain is at its level: the reason with which it got there, not how far it is from leaving."""
    if verdict.advised is not None:
        return Reason.ADVISE_ONLY, f"in mode Act the state would be {verdict.advised}"
    raw, step = verdict.declared.raw, verdict.step
    if level_before(raw) is step.level:
        kept = next((c.get("reason") for c in tree.conditions(raw) if c.get("type") == "Capping"), None)
        return Reason(kept) if isinstance(kept, str) and kept in set(Reason) else step.reason, ""
    return step.reason, ""


def _arming(verdict: Verdict) -> tuple[Reason, str]:
    """Return why a domain is armed or not, with the arithmetic where it does not fit."""
    admission = verdict.admission
    if not verdict.declared.asks_to_arm:
        return Reason.ADVISE_ONLY, "spec.mode is Advise"
    if admission is None:
        return Reason.TELEMETRY_LOST, "waiting to hear from every node once"
    if admission.fits:
        return Reason.APPLIED, ""
    return Reason.ADMISSION_FAILED, (
        f"with one node lost the safe setting draws up to {admission.lost_node_w:.0f} W, "
        f"{admission.lost_node_w - admission.budget_w:.0f} W above spec.budgetWatts; "
        "raise the budget, take nodes out, or state smaller nonGPUWattsPerNode"
    )
