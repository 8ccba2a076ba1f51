"""What a PowerDomain's status says, and when it is worth a write.

Who calls it: `cycle`. Written when state, arming or a condition changes; measured watts ride along, and alone only when
they moved by more than 5 %, at most once a minute (DESIGN 3). Messages hold no figure that moves every second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from capstan.api import status
from capstan.model.reasons import Reason
from capstan.model.sample import Missing
from capstan.power import admission, tree
from capstan.power.judge import Verdict
from capstan.power.ports import Document
from capstan.powercap.domains import Level, Strategy

ALONE_S = 60.0
MOVED_RATIO = 0.05
NAMED = 5  # of a list of nodes or GPUs: a message is a sentence
BUDGET = "budgetInForceWatts"
FIGURES = ("projectedWatts", BUDGET)


@dataclass(frozen=True, slots=True)
class Said:
    """One condition as of now."""

    kind: str
    holds: bool | None
    reason: Reason
    message: str = ""


def built(verdict: Verdict, now_s: float) -> Document:
    """Return the whole status of a domain, transition times kept where nothing changed."""
    sums = verdict.admission
    figures = status.DomainFigures(
        budget_w=verdict.budget.budget_w,
        capped_gpus=verdict.capped_gpus,
        safe_sum_w=None if sums is None else sums.safe_sum_w,
        lost_node_w=None if sums is None else sums.lost_node_w,
        nameplate_w=None if sums is None else sums.nameplate_w,
        lost_feeds=verdict.budget.feeds.lost,
        strategy=verdict.strategy if verdict.armed else None,
        granted_w=None if verdict.book is None else verdict.book.granted_w,
        held_w=None if verdict.book is None else verdict.book.held_w,
        silent_held_w=None if verdict.book is None else verdict.book.silent_w,
    )
    made = status.domain_status(verdict.step, figures, generation=verdict.declared.generation)
    generation = verdict.declared.generation
    now = (
        status.condition(
            said.kind, holds=said.holds, reason=said.reason.value, message=said.message, generation=generation,
            now_s=now_s,
        )
        for said in conditions(verdict)
    )  # fmt: skip
    made["conditions"] = status.following(tree.conditions(verdict.declared.raw), now)
    return made


def worth_writing(made: Document, raw: Document, *, since_s: float) -> bool:
    """Return whether `made` differs from what is stored in more than a few watts."""
    stored = raw.get("status")
    if not isinstance(stored, dict):
        return True
    if _said(made) != _said(stored):
        return True
    if any(isinstance(made.get(name), int) is not isinstance(stored.get(name), int) for name in FIGURES):
        return True
    return since_s >= ALONE_S and (_moved(made, stored) or made.get(BUDGET) != stored.get(BUDGET))


def _moved(made: Document, stored: Document) -> bool:
    before, now = stored.get("projectedWatts"), made.get("projectedWatts")
    if not isinstance(before, int) or not isinstance(now, int):
        return before != now
    return abs(now - before) > MOVED_RATIO * max(before, 1)


def _said(document: Document) -> object:
    """Return the part of a status whose change is news."""
    listed = document.get("conditions")
    words = [
        (c.get("type"), c.get("status"), c.get("reason"), c.get("message"))
        for c in (listed if isinstance(listed, list) else [])
    ]
    feeds = document.get("lostFeeds")
    strategy = document.get("strategy")
    return document.get("state"), strategy, document.get("observedGeneration"), feeds, sorted(words, key=str)


def conditions(verdict: Verdict) -> Iterator[Said]:
    """Yield the conditions of now; those of a meter, feeds or a deletion only where there is one."""
    step = verdict.step
    yield _accepted(verdict)
    yield _armed(verdict)
    yield _capping(verdict)
    yield _members(verdict)
    within = step.utilisation_ratio <= 1
    yield Said("WithinLimit", within, Reason.BELOW_THRESHOLDS if within else Reason.ABOVE_BRAKE_THRESHOLD)
    yield _confirmed(verdict)
    yield _sufficient(verdict)
    if verdict.grants:
        yield _granting(verdict)
    yield from _metered(verdict)
    if verdict.held and verdict.admission is not None:
        yield Said("Released", False, Reason.RELEASE_BLOCKED, admission.kept(verdict.admission))


def _accepted(verdict: Verdict) -> Said:
    declared = verdict.declared
    if declared.problem:
        return Said("Accepted", False, Reason.INVALID_SPEC, declared.problem)
    told = "; ".join(f"{finding.field}: {finding.message}" for finding in declared.findings)
    if declared.flaws:
        return Said("Accepted", False, Reason.INVALID_TREE, told)
    return Said("Accepted", True, Reason.APPLIED, told)


def _armed(verdict: Verdict) -> Said:
    """Say why a domain is armed or not, with the arithmetic where it does not fit."""
    sums, declared = verdict.admission, verdict.declared
    under_grants = verdict.strategy is Strategy.GUARANTEED
    if verdict.armed:
        if sums is not None and sums.safe_sum_w > verdict.budget.budget_w:
            told = admission.short_of_grants(sums) if under_grants else admission.shortfall(sums)
            return Said("Armed", True, Reason.ADMISSION_FAILED, told)
        if under_grants:
            return Said("Armed", True, Reason.APPLIED, "watt grants hold in the boards: they outlive the agents")
        told = "board limits hold at every level: they outlive the agents" if sums is not None and sums.resident else ""
        return Said("Armed", True, Reason.APPLIED, told)
    if not declared.acts:
        return Said("Armed", False, Reason.ADVISE_ONLY, "spec.mode is Advise")
    if declared.leaving:
        return Said("Armed", False, Reason.DISARMED, "deleted: its nodes are released")
    if sums is None:
        return Said("Armed", False, Reason.TELEMETRY_LOST, "waiting to hear from every node once")
    if not sums.fits:
        grants = declared.domain.strategy is Strategy.GUARANTEED
        told = (admission.refused_grants if grants else admission.refusal)(sums, len(declared.nodes))
        return Said("Armed", False, Reason.ADMISSION_FAILED, told)
    return Said("Armed", False, Reason.INVALID_TREE, "the tree is not sound here: see Accepted")


def _capping(verdict: Verdict) -> Said:
    """Say why a domain is at its level: the reason with which it got there, not how far it is from leaving."""
    raw, step = verdict.declared.raw, verdict.step
    capping = step.level not in (Level.NORMAL, Level.DISARMED)
    if verdict.armed and verdict.strategy is Strategy.GUARANTEED:
        binds = verdict.capped_gpus > 0
        told = "limits of grants held boards in the last 30 s" if binds else ""
        return Said("Capping", binds, Reason.POWER_LIMITED if binds else Reason.BELOW_THRESHOLDS, told)
    if verdict.advice:
        return Said("Capping", False, Reason.ADVISE_ONLY, verdict.advice)
    if verdict.advised is not None:
        told = f"in mode Act the state would be {verdict.advised}"
        return Said("Capping", capping, Reason.ADVISE_ONLY, told)
    if tree.level_before(raw) is step.level:
        kept = next((c.get("reason") for c in tree.conditions(raw) if c.get("type") == "Capping"), None)
        if isinstance(kept, str) and kept in set(Reason):
            return Said("Capping", capping, Reason(kept))
    return Said("Capping", capping, step.reason)


def _members(verdict: Verdict) -> Said:
    missing = verdict.step.missing
    parts = [f"no fresh watts from {_some(missing)}"] if missing else []
    parts += [_some(verdict.unreadable, "; ")] if verdict.unreadable else []
    whole = not missing and not verdict.unreadable
    return Said("MembersComplete", whole, Reason.FOUND if whole else Reason.TELEMETRY_LOST, "; ".join(parts))


def _confirmed(verdict: Verdict) -> Said:
    """Say which GPUs do not show their caps, once they had the time to."""
    unconfirmed = verdict.unconfirmed
    if unconfirmed.settled_w <= 0:
        return Said("ActuationConfirmed", True, Reason.APPLIED)
    told = f"not in force on {_some(unconfirmed.gpus)}; see `capstan agent` there"
    return Said("ActuationConfirmed", False, Reason.ACTUATION_UNCONFIRMED, told)


def _sufficient(verdict: Verdict) -> Said:
    if not verdict.step.beyond_brake:
        return Said("BrakeInsufficient", False, Reason.APPLIED)
    told = "Brake holds and the draw stays above the budget: drain low priority here, or shed at the feed"
    return Said("BrakeInsufficient", True, Reason.BRAKE_INSUFFICIENT, told)


def _granting(verdict: Verdict) -> Said:
    """Say whether what nodes may draw fits the budget, who holds watts in silence, who can hold no grant."""
    book = verdict.book
    if book is None:
        return Said("GrantsInForce", None, Reason.PENDING, "the ledger was not read yet: every node keeps its limit")
    parts = [f"{_some(book.silent)} do not answer and keep what they hold"] if book.silent else []
    parts += [f"{_some(book.strangers)} can hold no grant and count at their worst"] if book.strangers else []
    if book.settled:
        return Said("GrantsInForce", True, Reason.GRANTED, "; ".join(parts))
    word = "more is held than the budget has" if not book.fits else "lowered limits are not read back yet"
    return Said("GrantsInForce", False, Reason.ACTUATION_UNCONFIRMED, "; ".join([word, *parts]))


def _metered(verdict: Verdict) -> Iterator[Said]:
    spec, in_force, step = verdict.declared.parsed.spec, verdict.budget, verdict.step
    problems = "; ".join(in_force.problems)
    if spec.meter is not None:
        if isinstance(in_force.meter, Missing):
            yield Said("MeterAgrees", None, in_force.meter.reason, problems or "not read yet")
        elif step.meter_agrees is False:
            odd = "it says what the domain cannot draw: watts are expected, not kilowatts or amperes"
            apart = "meter and agents are more than a tenth apart: the larger counts"
            yield Said("MeterAgrees", False, Reason.METER_DISAGREES, odd if step.meter_w is None else apart)
        else:
            yield Said("MeterAgrees", True, Reason.FOUND)
    if spec.feeds:
        feeds = in_force.feeds
        if feeds.lost:
            told = f"{', '.join(feeds.lost)} died: half the budget holds until every feed carries again"
            yield Said("FeedsWhole", False, Reason.FEED_LOST, told)
        elif feeds.unread:
            yield Said("FeedsWhole", None, Reason.NO_DATA, problems or "not read yet")
        else:
            yield Said("FeedsWhole", True, Reason.FOUND)
    if spec.reductions:
        yield _reduced(verdict)


def _reduced(verdict: Verdict) -> Said:
    """Say whether a reduction holds the budget down, and ahead of time that one goes below what Brake is sure of."""
    in_force, sums, declared_w = verdict.budget, verdict.admission, float(verdict.declared.parsed.spec.budget_watts)
    reduced = in_force.budget_w < declared_w * in_force.feeds.share_ratio
    short = verdict.armed and sums is not None and sums.safe_sum_w > in_force.ahead_w
    if sums is None or not short or in_force.deepest is None:
        return Said("BudgetReduced", reduced, Reason.BUDGET_REDUCED if reduced else Reason.APPLIED)
    told = admission.too_deep(sums, in_force.deepest.from_s)
    return Said("BudgetReduced", reduced, Reason.BUDGET_REDUCED if reduced else Reason.ADMISSION_FAILED, told)


def _some(names: tuple[str, ...], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
