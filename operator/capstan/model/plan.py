"""What was decided: per pool (tp, replicas, clock cap), what it should cost, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from capstan.model.classes import Split
from capstan.model.fleet import ClassDemand
from capstan.model.outlook import Tracker
from capstan.model.reasons import Reason
from capstan.model.workload import Phase


@dataclass(frozen=True, slots=True)
class Effect:
    """Latency, power and energy of a plan: expected by the physics, or observed. None where unknown."""

    power_w: float | None = None
    j_per_output_token: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None


def together(effects: Sequence[Effect], tokens_per_s: float) -> Effect:
    """Return the effect of several pools: watts add up, the slowest pool's latencies are those of all.

    Args:
        effects: One per pool; where the watts of one are not known, nothing is known of all.
        tokens_per_s: Output tokens of all pools, for their joules.
    """
    if len(effects) == 1:
        return effects[0]
    known = [effect.power_w for effect in effects if effect.power_w is not None]
    if not known or len(known) < len(effects):
        return Effect()
    power_w = sum(known)
    return Effect(
        power_w,
        power_w / tokens_per_s if tokens_per_s > 0 else None,
        max((effect.ttft_s for effect in effects if effect.ttft_s is not None), default=None),
        max((effect.tpot_s for effect in effects if effect.tpot_s is not None), default=None),
    )


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One pool: `replicas` engines of `tp` GPUs, each capped at `clock_cap_mhz` (None: no cap, full clock).

    `classes` are the codes of the request classes it serves (`model.classes`); empty: all of them. `phase` is what it
    plays of them: a prefill pool hands over to the decode pool of the same plan. A mix of degrees is several plans
    under one pool name; `weight_ratio` is the share of requests that one replica takes beside others.
    """

    pool: str
    tp: int
    replicas: int
    clock_cap_mhz: float | None = None
    classes: tuple[int, ...] = ()
    weight_ratio: float = 1.0
    phase: Phase = Phase.BOTH

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
class Share:
    """How many requests a replica of a degree in a power domain holds beside others of its pool, the most 1."""

    domain: str
    tp: int
    weight_ratio: float


@dataclass(frozen=True, slots=True)
class Move:
    """One replica that starts in another domain before it ends where it is."""

    source: str
    target: str
    tp: int


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """What is done while a domain caps GPUs of a policy (DESIGN 4); empty: none does, or nothing has to be done.

    Attributes:
        shares: Where requests go, while some replicas are capped and others are not; empty: as ever.
        shed_ratio: Share of the requests that are answered with 429 at once, so that the others keep their limits.
        moves: What leaves a capped domain.
        indebted: Whether limits will be missed all the same: nothing that is allowed keeps them.
    """

    shares: tuple[Share, ...] = ()
    shed_ratio: float = 0.0
    moves: tuple[Move, ...] = ()
    indebted: bool = False


NO_POWER_PLAN = PowerPlan()


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """The plan of one policy with its reasons; one reason per knob, so that `kubectl` can print why.

    `pools` empty means: no plan, leave everything as it is (`replicas_reason` says why). `advice` is what the knobs
    that only advise would make of it: all pools with their degrees, classes and clocks, what they should cost in
    `advice_expected`, and why in `advice_reason`; empty where no knob advises otherwise than `pools`.
    `forecast_drifted` and `profile_drifted`: the load has left its pattern, measurements their physics; None: unknown.
    """

    policy: str
    pools: tuple[PoolPlan, ...]
    expected: Effect
    replicas_reason: Reason
    clock_reason: Reason
    forecast_rps: float | None = None
    candidates: tuple[Candidate, ...] = ()
    advice: tuple[PoolPlan, ...] = ()
    advice_reason: Reason | None = None
    advice_expected: Effect = Effect()
    tp_reason: Reason = Reason.NO_CHANGE_NEEDED
    forecast_drifted: bool | None = None
    profile_drifted: bool | None = None
    power: PowerPlan = NO_POWER_PLAN


Fleet = tuple[tuple[int, int], ...]
"""(tp, replicas) of one pool, ascending in tp; what is not named has no replica."""


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What the next cycle must know of one pool. Small, frozen, replayable.

    Attributes:
        pool: Its name, which says what classes it serves (`model.classes`).
        rates: `((t_s, arrival_rps), ...)`, oldest first, bounded by the forecast's look-back.
        lengths: Mean prompt and output tokens of what it serves, and `prompt_cv2_ratio` of `Workload`.
        lengths_at_s, lengths_cycles: When lengths were last blended in, and how often so far.
        fleet: What was planned last, since `fleet_since_s`; None: nothing yet.
        reshaped_at_s: When the tp mix was last looked at.
        clock_cap_mhz, clock_since_s: The cap planned last (None: full clock), and since when.
        settled_cap_mhz, settled_since_s: The cap planned last for a load that lasts, by no alarm and for no burst, and
            since when; `settled_since_s` None: none yet.
        lower_clock_votes, voted_at_s: Ticks in a row that asked for a lower clock, and when the last did.
        margin_ratio: Share of each limit that closed forms are held to, as latencies that were seen have corrected it.
        tightened: When it was last corrected downwards, and the stress that it was corrected for.
        bias_spent_since_s: Since when that correction stands at its tight end, and limits are broken all the same.
        inside_ratio: Requests inside over those of the steady state that was worked out, as it usually is.
        decode_ratio: Decode time over the profile's, as it was learnt; None: never.
    """

    pool: str
    rates: tuple[tuple[float, float], ...] = ()
    lengths: tuple[float, float, float] | None = None
    lengths_at_s: float | None = None
    lengths_cycles: int = 0
    fleet: Fleet | None = None
    fleet_since_s: float | None = None
    reshaped_at_s: float | None = None
    clock_cap_mhz: float | None = None
    clock_since_s: float | None = None
    settled_cap_mhz: float | None = None
    settled_since_s: float | None = None
    lower_clock_votes: int = 0
    voted_at_s: float | None = None
    margin_ratio: float | None = None
    tightened: tuple[float, float] | None = None
    bias_spent_since_s: float | None = None
    inside_ratio: float | None = None
    decode_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What the knobs that only advise would make of a policy, and why."""

    pools: tuple[PoolPlan, ...]
    reason: Reason
    expected: Effect


@dataclass(frozen=True, slots=True)
class PowerMemory:
    """What the next cycle must know of a policy's watts.

    Attributes:
        asked_gpus, asked_clock_w: What the last plan wanted more than stood, before any domain's headroom: GPUs, and
            watts of a higher clock.
        shed_ratio, shares: What is shed, and where requests go.
        capped_since_s: Since when some domain caps it; None: none does.
        moved_at_s: When a replica was last moved.
    """

    asked_gpus: int = 0
    asked_clock_w: float = 0.0
    shed_ratio: float = 0.0
    shares: tuple[Share, ...] = ()
    capped_since_s: float | None = None
    moved_at_s: float | None = None


NO_POWER_MEMORY = PowerMemory()


@dataclass(frozen=True, slots=True)
class Need:
    """GPUs that were needed, and when they last were."""

    gpus: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Needs:
    """The fewest GPUs that keep the SLO at full clock: `serving` under the load that is there, `ready` at its peak."""

    serving: Need
    ready: Need


@dataclass(frozen=True, slots=True)
class PolicyMemory:
    """What the next cycle must know of one policy.

    Attributes:
        pools: One per pool in force.
        split: The classes of each pool, in the same order; empty: one pool, nothing was ever split.
        split_since_s: Since when it stands.
        classes: Demand per class, smoothed.
        seen_at_s, seen_cycles: When `classes` was brought up to date, and how often so far.
        wanted_gpus: GPUs that the last plan wanted before its pools shared what there is.
        needs: GPUs that it needs, whatever the fleet has; None: not known yet, what stands.
        tracker: What is believed of the whole load to come; None: no history was ever known.
        advice: As of `advised_at_s`, when it was last due; None: nothing that is worth it.
        unplaced: Degrees that no node had room for, each with when that was seen last.
        power: What it asked of power domains, and what is done while they cap it; None: nothing.
    """

    policy: str
    pools: tuple[PoolMemory, ...] = ()
    split: Split = ()
    split_since_s: float | None = None
    classes: tuple[ClassDemand, ...] = ()
    seen_at_s: float | None = None
    seen_cycles: int = 0
    wanted_gpus: int = 0
    needs: Needs | None = None
    tracker: Tracker | None = None
    advice: Advice | None = None
    advised_at_s: float | None = None
    unplaced: tuple[tuple[int, float], ...] = ()
    power: PowerMemory | None = None

    def of(self, pool: str) -> PoolMemory:
        """Return the memory of a pool, empty when it is new."""
        return next((m for m in self.pools if m.pool == pool), PoolMemory(pool))


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
