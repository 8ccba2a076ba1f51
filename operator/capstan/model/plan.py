"""What was decided: per pool (tp, replicas, clock cap), what it should cost, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from capstan.model.reasons import Reason


@dataclass(frozen=True, slots=True)
class Effect:
    """Latency, power and energy of a plan: expected by the physics, or observed. None where unknown."""

    power_w: float | None = None
    j_per_output_token: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One pool: `replicas` engines of `tp` GPUs, each capped at `clock_cap_mhz` (None: no cap, full clock).

    `classes` are the codes of the request classes it serves (`model.classes`); empty: all of them. A mix of degrees
    is several plans under one pool name.
    """

    pool: str
    tp: int
    replicas: int
    clock_cap_mhz: float | None = None
    classes: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs that the pool holds when it is whole."""
        return self.tp * self.replicas


@dataclass(frozen=True, slots=True)
class Candidate:
    """One option that was looked at, and why it lost (`chosen` has the plan's own reason)."""

    tp: int
    replicas: int
    clock_cap_mhz: float | None
    power_w: float | None
    reason: Reason
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """The plan of one policy with its reasons; one reason per knob, so that `kubectl` can print why.

    `pools` empty means: no plan, leave everything as it is (`replicas_reason` says why).
    """

    policy: str
    pools: tuple[PoolPlan, ...]
    expected: Effect
    replicas_reason: Reason
    clock_reason: Reason
    forecast_rps: float | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyMemory:
    """What the next cycle must know of one policy. Small, frozen, replayable.

    `rates` is `((t_s, arrival_rps), ...)`, oldest first, bounded by the forecast's look-back.
    """

    policy: str
    rates: tuple[tuple[float, float], ...] = ()
    lengths: tuple[float, float] | None = None
    replicas: int | None = None
    replicas_since_s: float | None = None
    clock_cap_mhz: float | None = None
    clock_since_s: float | None = None
    lower_clock_votes: int = 0
    voted_at_s: float | None = None
    planned_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the whole decision; an empty one is a restarted operator."""

    policies: tuple[PolicyMemory, ...] = ()

    def of(self, policy: str) -> PolicyMemory:
        """Return the memory of `policy`, empty when it is new."""
        return next((m for m in self.policies if m.policy == policy), PolicyMemory(policy))


@dataclass(frozen=True, slots=True)
class Decision:
    """One cycle's outcome for all policies, in the order of the policies given."""

    policies: tuple[PolicyDecision, ...]
    memory: Memory = field(default_factory=Memory)

    def of(self, policy: str) -> PolicyDecision | None:
        """Return the decision of one policy, or None when it was not among the policies."""
        return next((d for d in self.policies if d.policy == policy), None)
