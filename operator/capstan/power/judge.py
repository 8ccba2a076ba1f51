"""One domain in one tick: its budget, whether it is armed, what is confirmed, the machine's step.

Who calls it: `cycle` on the leader, `standby` for its shadow. No I/O; what it must remember is in `State`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capstan.model.reasons import Reason
from capstan.power import admission, budgets, caps, granted, tree
from capstan.power.admission import Admission
from capstan.power.budgets import InForce
from capstan.power.confirm import Confirmations, Unconfirmed
from capstan.power.granted import Binding
from capstan.power.heard import Heard
from capstan.power.ledgers import Book
from capstan.power.ports import GpuReport, Meters, NodePower
from capstan.power.priority import HighPods
from capstan.power.tree import Declared
from capstan.powercap import derive, readings
from capstan.powercap import step as machine
from capstan.powercap.budget import FeedsMemory
from capstan.powercap.domains import (
    NO_CAPS,
    RANK,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    SafeSetting,
    Step,
    Strategy,
    tightest,
)
from capstan.powercap.readings import Samples

LATENCY_S = 5.0  # facts/polca.md 5.2: sensor, pull, decision, actuation and settling in band, expected 4-5 s


@dataclass(slots=True)
class State:
    """What the loop remembers of one domain; `shadow` is the machine that an Advise domain only watches.

    Attributes:
        strategy: What holds the budget now; the declared one only once it can.
    """

    memory: DomainMemory
    armed: bool
    strategy: Strategy = Strategy.STATISTICAL
    safe: SafeSetting | None = None
    resident: bool = False
    shadow: DomainMemory = field(default_factory=DomainMemory)
    advised: Level | None = None
    budget: budgets.Memory = field(default_factory=budgets.Memory)
    rises: derive.Rises = field(default_factory=derive.Rises)
    asked_s: float | None = None  # when caps were tightened that are not confirmed yet
    brake_told: bool = False
    status_at_s: float = -1e9
    binding: Binding = field(default_factory=lambda: Binding({}))
    seen_s: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What every domain of a tick is judged by."""

    heard: Heard
    confirmations: Confirmations
    meters: Meters
    high: HighPods
    now_s: float
    wall_s: float
    books: Mapping[str, Book] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One domain after one tick.

    Attributes:
        domain: As it was judged, with the budget in force.
        admission: None: nodes are not all known yet.
        capped: GPUs under a cap of this domain, by priority.
        advised: The level that an Advise domain would be in; None for one that asks to be armed.
        confirmed_s: Seconds from a tightening to its confirmation, in the tick in which it came.
        passed_s: Since the domain's tick before.
        worst_rise_ratio: The largest rise within one control latency, of the last week; None: none seen.
        samples: What its nodes said.
        strategy: What holds the budget now.
        grants: Whether its nodes are in its root's ledger: from the change to Guaranteed to the change away from it.
        book: Its part of that ledger; None: there is none, or it was not read yet.
        advice: What it would grant, where it only advises that.
    """

    declared: Declared
    domain: Domain
    step: Step
    armed: bool
    admission: Admission | None
    budget: InForce
    unconfirmed: Unconfirmed
    capped: Mapping[str, int]
    advised: Level | None = None
    confirmed_s: float | None = None
    passed_s: float = 0.0
    worst_rise_ratio: float | None = None
    unreadable: tuple[str, ...] = ()
    oldest_s: float | None = None
    samples: Samples = field(default_factory=lambda: readings.of(()))
    strategy: Strategy = Strategy.STATISTICAL
    grants: bool = False
    book: Book | None = None
    advice: str = ""

    @property
    def capped_gpus(self) -> int:
        """All GPUs under a cap of this domain."""
        return sum(self.capped.values())

    @property
    def held(self) -> bool:
        """Whether a deleted domain keeps its caps."""
        return self.declared.leaving and self.armed


def state_of(
    declared: Declared, node_powers: Mapping[str, NodePower], shadow: DomainMemory | None, now_s: float
) -> State:
    """Return the memory of a domain as status, NodeCaps and our own shadow have it: a new leader loosens nothing."""
    armed = (declared.asks_to_arm or declared.leaving) and tree.armed_before(declared.raw)
    levels = {tree.level_before(declared.raw), None if shadow is None else shadow.level} - {None, Level.DISARMED}
    level = max((known for known in levels if known is not None), key=RANK.__getitem__, default=Level.NORMAL)
    stored = [node_powers[node] for node in declared.nodes if node in node_powers]
    # What FailSafe was entered from is in no status: the brake stays where a node still holds it.
    braked = caps.holds_clock(stored, declared.domain.caps.brake_mhz) or Level.BRAKE in levels
    memory = DomainMemory(
        level if armed else Level.DISARMED, since_s=now_s, floor=Level.BRAKE if braked else Level.HIGH_CAP
    )
    feeds = FeedsMemory(lost=tree.lost_feeds_before(declared.raw))
    safe = caps.safe_of(stored) if armed else None
    strategy = tree.strategy_before(declared.raw) or Strategy.STATISTICAL  # a status of before there was another
    return State(memory, armed, strategy, safe, budget=budgets.Memory(feeds=feeds))


def judged(declared: Declared, state: State, view: View) -> Verdict:
    """Return the verdict on one domain and keep what it must remember."""
    now_s, passed_s = view.now_s, 0.0 if state.seen_s is None else view.now_s - state.seen_s
    in_force, state.budget = budgets.in_force(declared.parsed.spec, state.budget, view.meters, now_s, view.wall_s)
    unarmed = replace(declared.domain, budget_w=in_force.budget_w)
    samples = view.heard.samples(declared.nodes, now_s)
    book = view.books.get(declared.name)
    admitted = _admission(declared, state, view.heard, unarmed, in_force, samples)
    _arm(declared, state, admitted, view.heard.whole(declared.nodes))
    _change(declared, state, book, replace(unarmed, budget_w=in_force.ahead_w), samples, view)
    domain = replace(unarmed, armed=state.armed, safe=state.safe)
    unconfirmed = view.confirmations.of(
        declared.nodes, view.heard.reports(declared.nodes), now_s, settle_s=domain.timers.settle_s
    )
    if state.armed and state.strategy is Strategy.GUARANTEED:
        done = _granted(domain, samples, state, in_force, book, view)
        capped = {"high": 0, "low": 0, "grant": state.binding.look(domain, view.heard, now_s)}
    else:
        done = _step(domain, samples, state, in_force, unconfirmed, now_s)
        capped = counted(domain, done.caps, view.heard, view.high)
    _shadow(declared, domain, samples, state, in_force, now_s)
    confirmed_s = _latency_s(state, done, unconfirmed, now_s)
    whole_w = done.measured_w if not done.missing else None
    state.rises = derive.watched(state.rises, whole_w, now_s, latency_s=LATENCY_S, budget_w=domain.budget_w)
    state.memory, state.seen_s = done.memory, now_s
    return Verdict(
        declared, domain, done, state.armed, admitted, in_force, unconfirmed, capped,
        advised=None if declared.asks_to_arm or state.armed else state.advised,
        confirmed_s=confirmed_s,
        passed_s=passed_s,
        worst_rise_ratio=state.rises.worst_ratio,
        unreadable=view.heard.unreadable(declared.nodes),
        oldest_s=view.heard.oldest_s(declared.nodes, now_s),
        samples=samples,
        strategy=state.strategy,
        grants=state.armed and (state.strategy is Strategy.GUARANTEED or _wants_grants(declared)),
        book=book,
        advice=_advice(declared, domain, samples, view.heard),
    )  # fmt: skip


def _wants_grants(declared: Declared) -> bool:
    return declared.domain.strategy is Strategy.GUARANTEED and not declared.flaws


def _advice(declared: Declared, domain: Domain, samples: Samples, heard: Heard) -> str:
    if declared.acts or domain.strategy is not Strategy.GUARANTEED:
        return ""
    return granted.advice(domain, samples, heard.reports(domain.nodes))


def counted(domain: Domain, held: ClassCaps, heard: Heard, high: HighPods) -> dict[str, int]:
    """Count GPUs under a cap of this domain: Low ones under the low cap, High ones under the high cap."""
    found = {"high": 0, "low": 0}
    if held == NO_CAPS:
        return found
    for node in domain.nodes:
        for gpu in heard.gpus(node):
            is_high = (gpu.namespace, gpu.pod) in high
            cap = held.high_mhz if is_high else held.low_mhz
            found["high" if is_high else "low"] += cap is not None or held.power_limit_w is not None
    return found


def _admission(
    declared: Declared, state: State, heard: Heard, unarmed: Domain, in_force: InForce, samples: Samples
) -> Admission | None:
    """Return the domain's sums; None until they are known.

    To arm, every node must have been heard once; an armed domain goes on with what a newcomer is taken for.
    """
    if not samples.nodes or not (state.armed or heard.whole(declared.nodes)):
        return None
    ahead = replace(unarmed, budget_w=in_force.ahead_w)
    if (state.strategy if state.armed else declared.domain.strategy) is Strategy.GUARANTEED:
        return granted.asked(ahead, samples, heard.reports(declared.nodes))
    return admission.asked(ahead, samples, _gpus(declared, heard))


def _gpus(declared: Declared, heard: Heard) -> list[GpuReport]:
    return [gpu for node in declared.nodes for gpu in heard.gpus(node)]


def _arm(declared: Declared, state: State, admitted: Admission | None, whole: bool) -> None:
    """Arm on admission; leave armed only by the explicit release: mode Advise, or a deletion that the budget bears."""
    if declared.leaving:
        empty = not declared.nodes
        state.armed = state.armed and declared.acts and not (empty or (admitted is not None and admitted.released_fits))
    elif not declared.acts:
        state.armed = False
    elif not state.armed and admitted is not None and admitted.fits and not declared.flaws:
        state.armed, state.resident = True, admitted.resident
        state.strategy = declared.domain.strategy
    if state.armed and admitted is not None:
        state.resident = admitted.resident
    state.safe = admission.safe_of(state.safe, admitted, whole=whole)


def _change(declared: Declared, state: State, book: Book | None, ahead: Domain, samples: Samples, view: View) -> None:
    """Let another strategy hold an armed domain's budget, once it can: never looser before the other one holds.

    Grants take over when each was read back; thresholds when every node answers and the safe sum is inside the budget.
    """
    wanted = declared.domain.strategy
    if not state.armed or wanted is state.strategy or declared.flaws:
        return
    if wanted is Strategy.GUARANTEED:
        if book is None or not book.settled:
            return
    else:
        sums = admission.asked(ahead, samples, _gpus(declared, view.heard))
        if view.heard.fresh(declared.nodes, view.now_s) < len(declared.nodes) or not sums.fits:
            return
        state.safe, state.resident = sums.safe, sums.resident
    state.strategy = wanted
    state.memory = DomainMemory(Level.NORMAL, since_s=view.now_s, meter=state.memory.meter)


def _granted(domain: Domain, samples: Samples, state: State, in_force: InForce, book: Book | None, view: View) -> Step:
    """Return the step of a domain under grants."""
    measured = machine.step(
        replace(domain, armed=False, safe=None), granted.counted(domain, samples, book), state.memory, view.now_s,
        meter=in_force.meter,
    )  # fmt: skip
    return granted.stepped(domain, measured, samples, view.heard.reports(domain.nodes), book)


def _step(
    domain: Domain, samples: Samples, state: State, in_force: InForce, unconfirmed: Unconfirmed, now_s: float
) -> Step:
    done = machine.step(
        domain,
        samples,
        state.memory,
        now_s,
        meter=in_force.meter,
        confirmed=None if unconfirmed.beyond else not unconfirmed.gpus,
    )
    if done.level is Level.FAIL_SAFE and unconfirmed.beyond:
        done = replace(done, reason=Reason.ACTUATION_UNCONFIRMED)
    if state.armed and state.resident and domain.safe is not None:
        done = replace(done, caps=tightest(done.caps, ClassCaps(power_limit_w=domain.safe.power_limit_w)))
    return done


def _shadow(
    declared: Declared, domain: Domain, samples: Samples, state: State, in_force: InForce, now_s: float
) -> None:
    """Step the machine that an Advise domain only watches."""
    if declared.asks_to_arm or state.armed or domain.strategy is Strategy.GUARANTEED:
        state.shadow, state.advised = DomainMemory(), None
        return
    watched = machine.step(replace(domain, armed=True, safe=None), samples, state.shadow, now_s, meter=in_force.meter)
    state.shadow, state.advised = watched.memory, watched.level


def _latency_s(state: State, done: Step, unconfirmed: Unconfirmed, now_s: float) -> float | None:
    """Return how long a tightening took to be confirmed, in the tick in which it is."""
    before = state.memory.level
    if RANK[done.level] > RANK[before] and done.level is not Level.DISARMED:
        state.asked_s = now_s
        return None
    if state.asked_s is None or unconfirmed.gpus or done.caps == NO_CAPS:
        return None
    took_s, state.asked_s = now_s - state.asked_s, None
    return took_s
