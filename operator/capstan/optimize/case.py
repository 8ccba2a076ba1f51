"""One pool of one policy with everything its decision needs; the record that `replicas` and `tune` share."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.forecast import peak
from capstan.forecast.calendar import Calendar
from capstan.model import fleet, objective, plan, sample, slo
from capstan.model.policy import Knob, Objective, Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.model.workload import PROMPT_CV2, Phase, Short, Workload
from capstan.optimize import fleets, smoothing, watts

DEFAULT_CALENDAR = Calendar()
WAITING_PER_REPLICA = 4.0  # more than this many queued per ready replica is an alarm (WVA's saturation uses 5)
CHANCE_SIGMAS = 3.0  # beside it: one replica alone has five waiting every few minutes, ten together never have fifty
LATE_RATIO = 1.5
"""Queues beyond this many times what arrives within the TTFT limit are news: at the limit itself a load that keeps its
p99 stands once in a hundred looks, and every such look would be two changes of the clock."""
MIN_SAMPLE_REQUESTS = 200.0  # observed percentiles of fewer requests say nothing (DESIGN 4)

MOST_BIAS_RATIO = 0.25
"""DESIGN 5: the online estimate of a profile's bias is clipped to +-25 %."""

OUTPUT_CV = 1.0  # of answers' lengths, as many as they are long (`smoothing`)
MARGIN_STEP = 0.01  # a percent of a limit is less than anybody measures
MISSED_RATIO = 1.1
"""What the minutes that are scored miss their limit by before it is an alarm: a constant load's p99 at its limit is
above it every other time, and the margin is corrected for that already."""

ROOM_RATIO = 0.9  # of the limits at the SLO's percentile: below it there is room
CORRECTED_RATIO = 0.8  # what a miss is corrected to: a p99 of five minutes is known to a tenth, the SLO comes first
LOOSER_RATIO = 1.001
"""Per cycle: from one bound to the other in 43 minutes up, while a miss goes down at once by what it says: it costs
more than a few watts. What was seen is of five minutes, sixty cycles: an integrator that crosses the room of 0.9 to 1
within them swings for ever."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Periods and margins of the decision.

    Attributes:
        cluster_period_s: How long a replica count stands before it may fall (DynamoLLM: 30 min).
        pool_period_s: Period of the tp mix (DynamoLLM: 5 min).
        instance_period_s: How often `decide` is called and the clock may move (DynamoLLM: 5 s).
        lookback_s: How long rates are remembered.
        rate_window_s: Window that each arrival rate was measured over.
        slo_margin_ratio: Share of each SLO limit to plan for before anything was learnt: with what may be learnt
            (`MOST_BIAS_RATIO`) it ends at the limits themselves.
        agreeing_ticks: Ticks that must agree before a clock falls (GreenLLM's three windows).
        tariffs: What joules and GPUs cost, on the clock of `now_s`, for policies whose objective is money or carbon.
        calendar: Slots, days and weeks that a history is read by; a slot is the pool period, or near it.
    """

    cluster_period_s: float = 1800.0
    pool_period_s: float = 300.0
    instance_period_s: float = 5.0
    lookback_s: float = 1800.0
    rate_window_s: float = 60.0
    slo_margin_ratio: float = 0.8
    agreeing_ticks: int = 3
    tariffs: objective.Tariffs = objective.NO_TARIFFS
    calendar: Calendar = DEFAULT_CALENDAR

    def __post_init__(self) -> None:
        periods = (self.instance_period_s, self.cluster_period_s, self.pool_period_s, self.lookback_s)
        if min(periods) <= 0 or self.rate_window_s <= 0:
            raise ValueError("every period and window must be above zero")
        if not 0 < self.slo_margin_ratio <= 1 or self.agreeing_ticks < 1:
            raise ValueError("slo_margin_ratio lies in (0, 1] and agreeing_ticks is at least 1")

    def gpu_w(self, kind: Objective, now_s: float) -> float:
        """Return the watts that an assigned GPU counts as beside those it draws, until replicas are looked at again."""
        return objective.weights(kind, self.tariffs, now_s=now_s, horizon_s=self.cluster_period_s).gpu_w


@dataclass(frozen=True, slots=True)
class Case:
    """One pool in one cycle. `memory` already holds this cycle's fresh rate and lengths.

    Attributes:
        policy: Whose pool it is; `slo` is what of its limits the pool's classes have.
        pool, classes: Its name and the codes it serves.
        seen: What was measured of it, or of the whole service where that is one pool.
        pools: Its replicas as the API server shows them, one record per tp.
        profiles: The physics of every tp that a plan may use, ascending; never empty.
        most_gpus: GPUs that it may have; None: only the bounds bind.
        beside_gpus: Of those, what the policy's other pools have.
        phase: What it plays of each request.
        short_prompts: How many of its prompts each tier of the limits concerns, where classes tell.
        allowance: What power domains let it draw more than what stands.
        foreseen_rps: The peak of the next epoch as history tells it; None: there is none, the last rates must do.
    """

    now_s: float
    policy: Policy
    slo: Slo
    pool: str
    classes: tuple[int, ...]
    seen: fleet.ServiceObserved
    pools: tuple[fleet.PoolObserved, ...]
    profiles: tuple[Profile, ...]
    memory: plan.PoolMemory
    settings: Settings
    most_gpus: int | None = None
    beside_gpus: int = 0
    foreseen_rps: float | None = None
    phase: Phase = Phase.BOTH
    short_prompts: tuple[Short, ...] = ()
    allowance: watts.Allowance = watts.UNLIMITED

    @property
    def ready(self) -> int:
        """Replicas that serve."""
        return sum(pool.ready for pool in self.pools)

    @property
    def starting(self) -> int:
        """Replicas that are not Ready yet."""
        return sum(pool.starting for pool in self.pools)

    @property
    def standing(self) -> plan.Fleet:
        """What is in force: what we planned last, else what the workloads ask for."""
        if self.memory.fleet is not None:
            return self.memory.fleet
        return fleets.of({pool.tp: pool.desired for pool in self.pools if self.profile(pool.tp)})

    @property
    def tp(self) -> int:
        """The degree that most of the pool has; of none, the smallest that may be used."""
        return fleets.main_tp(self.standing) or self.profiles[0].tp

    @property
    def reshapes(self) -> bool:
        """Whether a plan may change tensor-parallel degrees."""
        return self.policy.knobs.tensor_parallel is Knob.ACT

    @property
    def startup_s(self) -> float:
        """The longest start-up of a replica of any degree."""
        return max(profile.startup_s for profile in self.profiles)

    @property
    def back_s(self) -> float:
        """How long until a replica answers a rise: that fills a window, is seen in the next, and the replica starts."""
        return self.startup_s + 2 * self.settings.rate_window_s

    def profile(self, tp: int) -> Profile | None:
        """Return the physics of a degree, None where nobody knows it."""
        return next((profile for profile in self.profiles if profile.tp == tp), None)

    @property
    def gpu_w(self) -> float:
        """Watts that an assigned GPU counts as beside those it draws."""
        return self.settings.gpu_w(self.policy.objective, self.now_s)

    @property
    def blind(self) -> Reason | None:
        """Why the load is not known well enough to act on, or None."""
        arrival = self.seen.arrival_rps
        if isinstance(arrival, sample.Missing):
            return arrival.reason
        if isinstance(arrival, sample.Stale):
            return Reason.STALE_DATA
        return Reason.NO_TRAFFIC if self.memory.lengths is None else None

    @property
    def alarmed(self) -> bool:
        """Whether requests wait or observed percentiles break the SLO; observation may only raise."""
        return self.queued or self._late

    @property
    def short(self) -> bool:
        """Whether the alarm asks for replicas: requests wait, or are late although the full clock has had its time.

        Clocks answer within a step and replicas within minutes. Latencies are those of a window, so they are believed
        once the full clock has stood for one. Where a power domain caps replicas nothing of it says that any is missing
        (facts/polca.md, fact 9: more replicas draw more watts, which cap more).
        """
        if self.seen.capped:
            return False
        if self.queued:
            return True
        if self.memory.clock_cap_mhz is not None or self.memory.clock_since_s is None:
            return False
        return self._late and self.now_s - self.memory.clock_since_s >= self.settings.rate_window_s

    @property
    def queued(self) -> bool:
        """Whether more requests wait than a replica's next steps take in, and more than the TTFT limit explains.

        By Little's law the requests that wait are the rate times their mean wait. Where they only decode they wait for
        nobody's prompt, and no limit explains any of it.
        """
        waiting = self.seen.waiting
        arrival = self.seen.arrival_rps
        limit_s = 0.0 if self.phase is Phase.DECODE else self.slo.ttft_s
        within_limit = LATE_RATIO * arrival.value * limit_s if isinstance(arrival, sample.Fresh) else 0.0
        ready = max(self.ready, 1)
        limit = max(WAITING_PER_REPLICA * ready + CHANCE_SIGMAS * math.sqrt(ready), within_limit)
        return isinstance(waiting, sample.Fresh) and waiting.value > limit

    @property
    def _late(self) -> bool:
        """Whether observed percentiles break the SLO, now and over the minutes that it is scored by.

        At a p99 near its limit the last minute alone breaks it by chance every few minutes: eight late of 720 are one
        clump of long prompts. Where nobody knows of five minutes, the last one must do.
        """
        counted = self.seen.sample_requests
        if not isinstance(counted, sample.Fresh) or counted.value < MIN_SAMPLE_REQUESTS:
            return False
        stress = self.seen.stress_ratio
        if isinstance(stress, sample.Fresh) and stress.value <= MISSED_RATIO:
            return False
        limits = ((self.seen.ttft_s, self.slo.ttft_s), (self.seen.tpot_s, self.slo.tpot_s))
        return any(isinstance(seen, sample.Fresh) and seen.value > limit for seen, limit in limits)

    @property
    def margin(self) -> float:
        """Share of each limit to plan for, in whole steps: an answer worked out for one serves the next cycles, too."""
        known = self.memory.margin_ratio
        return self.settings.slo_margin_ratio if known is None else round(known / MARGIN_STEP) * MARGIN_STEP

    def load(self, arrival_rps: float) -> Workload | None:
        """Return `arrival_rps` with the lengths in memory, or None while no lengths are known."""
        if self.memory.lengths is None:
            return None
        return Workload(arrival_rps, *self.memory.lengths, phase=self.phase, short_prompts=self.short_prompts)


def remembered(
    now_s: float, seen: fleet.ServiceObserved, memory: plan.PoolMemory, settings: Settings, *, smoothed: bool = False
) -> plan.PoolMemory:
    """Return the memory with this cycle's fresh rate and lengths; stale and missing ones leave no trace.

    Lengths that are `smoothed` already, as those of classes are (`lanes.smoothed`), are followed as they come.
    """
    if not isinstance(seen.arrival_rps, sample.Fresh):
        return memory
    rates = peak.remembered(memory.rates, now_s, seen.arrival_rps.value, lookback_s=settings.lookback_s)
    margin_ratio, tightened = memory.margin_ratio, memory.tightened
    if not seen.capped:  # else it is the cap that is slow, and nothing is learnt of the profile
        margin_ratio, tightened = _learnt(now_s, seen, memory, settings)
    measured = _lengths(seen)
    if measured is None:
        return dataclasses.replace(memory, rates=rates, margin_ratio=margin_ratio, tightened=tightened)
    age_s = 0.0 if memory.lengths_at_s is None else now_s - memory.lengths_at_s
    old = memory.lengths or measured
    few = smoothing.ENOUGH_REQUESTS
    enough = few if smoothed else _enough(old, measured, seen.arrival_rps.value, window_s=settings.rate_window_s)
    keep = smoothing.kept_ratio(seen.arrival_rps.value * age_s, memory.lengths_cycles, enough=enough)
    prompt, output, spread = (new + keep * (before - new) for before, new in zip(old, measured, strict=True))
    return dataclasses.replace(
        memory,
        rates=rates,
        lengths=(prompt, output, spread),
        lengths_at_s=now_s,
        lengths_cycles=memory.lengths_cycles + 1,
        margin_ratio=margin_ratio,
        tightened=tightened,
    )


def _lengths(seen: fleet.ServiceObserved) -> tuple[float, float, float] | None:
    """Return this cycle's mean lengths and how much prompts vary; None where nothing fresh was seen."""
    if not (isinstance(seen.prompt_tokens, sample.Fresh) and isinstance(seen.output_tokens, sample.Fresh)):
        return None
    spread = PROMPT_CV2 if seen.prompt_cv2_ratio is None else seen.prompt_cv2_ratio
    return max(seen.prompt_tokens.value, 1.0), max(seen.output_tokens.value, 1.0), spread


def _enough(
    old: tuple[float, float, float], new: tuple[float, float, float], arrival_rps: float, *, window_s: float
) -> int:
    """Return how many requests lengths are to rest on: few where those of the last window are news, else many.

    Many are those of the span that a calm rate rests on, too. Example: of 720 requests in a minute chance moves the
    mean by sqrt(0.9 / 720) = 3.5 %: 11 % more is news.
    """
    chance_ratio = peak.BURST_SIGMAS / math.sqrt(max(arrival_rps * window_s, 1.0))
    moved = any(
        abs(after - before) > chance_ratio * spread * before
        for before, after, spread in zip(old[:2], new[:2], (math.sqrt(old[2]), OUTPUT_CV), strict=True)
    )
    few, many = smoothing.ENOUGH_REQUESTS, smoothing.ENOUGH_ALIKE
    return few if moved else min(max(round(arrival_rps * peak.CALM_S[0]), few), many)


def _learnt(
    now_s: float, seen: fleet.ServiceObserved, memory: plan.PoolMemory, settings: Settings
) -> tuple[float, tuple[float, float] | None]:
    """Return the margin for the next cycle, and when it was last tightened and for which stress.

    The closed form is an approximation and the profile a fit: what they call a stress of 0.9 is another one in truth.
    The error is the same for a while, so that it may be learnt: tighter at once where limits are broken, looser slowly
    where there is room.

    A miss is one observation for as long as it is in the window: it is corrected once, and again only by what is worse
    than that. Example: 1.0 and a stress of 1.2 make 1.0 x 0.8 / 1.2 = 0.67; 1.3 a minute later 0.67 x 1.2 / 1.3 = 0.62.
    """
    base = settings.slo_margin_ratio
    before = base if memory.margin_ratio is None else memory.margin_ratio
    stress, tightened = seen.stress_ratio, memory.tightened
    if not isinstance(stress, sample.Fresh):
        return before, tightened
    step = 1.0
    if stress.value > 1:
        known = tightened is not None and now_s - tightened[0] < slo.WINDOW_S + stress.age_s
        corrected = tightened[1] if tightened is not None and known else CORRECTED_RATIO
        if corrected < stress.value:
            step, tightened = corrected / stress.value, (now_s, stress.value)
    elif stress.value < ROOM_RATIO:
        step = LOOSER_RATIO
    return min(max(before * step, base * (1 - MOST_BIAS_RATIO)), base * (1 + MOST_BIAS_RATIO)), tightened
