"""Capstan itself, and the fleet that never moves, as systems of `replay.seen`.

Who calls it: `replay.engine` runs one, `app.replay` chooses which. Must not know: the future; only what `Seen` shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from capstan import decide
from capstan.forecast import known
from capstan.forecast.known import Known
from capstan.model import workload
from capstan.model.fleet import Observed, PoolObserved, ServiceObserved
from capstan.model.plan import Decision, Memory, PolicyDecision, PolicyMemory, PoolMemory
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.model.slo import WINDOW_S, Slo
from capstan.replay import foreseen
from capstan.replay.runs import Requests, cv2_ratio
from capstan.replay.scenario import Scenario
from capstan.replay.seen import PoolSeen, Seen, Service, ServiceSeen, Want


class Capstan:
    """The shipped decision, word for word: `decide.decide` every instance period, power domains armed."""

    name = "capstan"
    caps_power = True

    def __init__(
        self,
        policies: tuple[Policy, ...],
        profiles: tuple[Profile, ...],
        settings: decide.Settings,
        *,
        delay_s: float,
    ) -> None:
        self.period_s = settings.instance_period_s
        self._policies = policies
        self._profiles = profiles
        self._settings = settings
        self._delay_s = delay_s
        self._services: dict[str, Service] = {}
        self._memory = Memory()
        self._histories: dict[str, Known] = {}

    @classmethod
    def of(cls, scenario: Scenario) -> Capstan:
        """Return Capstan with the policies, profiles and periods of a scenario."""
        return cls(scenario.policies, scenario.profiles, scenario.settings, delay_s=scenario.telemetry_s)

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Begin with what the scenario says; remember what came before it."""
        self._services[service.policy.key] = service
        if service.history is not None and len(service.history):
            learnt = _learnt(service.policy.key, service.history, self._settings)
            self._memory = Memory((*self._memory.policies, learnt))
            self._histories[service.policy.key] = self._known(service, service.history)
        return service.start

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Decide, and remember what the next cycle must know."""
        decision = self.decide(seen)
        return tuple(want for decided in decision.policies for want in _wants(decided))

    def decide(self, seen: Seen) -> Decision:
        """Return the whole decision of one cycle."""
        services = tuple(self._observed(service, seen) for service in seen.services)
        observed = Observed(seen.now_s, services, self._gpus(), seen.domains)
        histories = tuple(self._histories.values())
        decision = decide.decide(observed, self._policies, self._profiles, self._memory, self._settings, histories)
        self._memory = decision.memory
        return decision

    def _gpus(self) -> tuple[tuple[str, int], ...]:
        """Return the GPUs of the fleet per product."""
        found: dict[str, int] = {}
        for service in self._services.values():
            product = service.profiles[0].gpu_products[0]
            found[product] = max(found.get(product, 0), service.most_gpus)
        return tuple(sorted(found.items()))

    def _known(self, service: Service, history: Requests) -> Known:
        """Return what an operator that read this history knows of the load."""
        settings = self._settings
        product = service.profiles[0].gpu_products[0]
        slots = decide.horizon_slots(service.policy, self._profiles, settings, gpu_product=product)
        window_s = min(settings.rate_window_s, settings.calendar.slot_s)  # a longer one would leave slots unknown
        end_s = float(history.arrival_s[-1])
        past = foreseen.earlier(history.arrival_s, settings.calendar, window_s=window_s, end_s=end_s)
        return known.of(service.policy.key, past, horizon_slots=slots)

    def _observed(self, seen: ServiceSeen, moment: Seen) -> ServiceObserved:
        """Return a service as the live loop's observation shows it."""
        places = next((places for policy, places in moment.places if policy == seen.policy), ())
        policy = self._services[seen.policy].policy
        product = self._services[seen.policy].profiles[0].gpu_products[0]
        pools = tuple(
            PoolObserved(lane.pool, *counts, product, pending=lane.pending(counts[0]))
            for lane in seen.pools
            for counts in lane.degrees
        )
        capped = seen.policy in moment.capped
        window = seen.window(self._settings.rate_window_s)
        if window.span_s < self._settings.rate_window_s:  # a rate over part of its window is noise
            return ServiceObserved(seen.policy, pools, gpu_product=product, capped=capped, places=places)
        queues = seen.replicas
        percentile = policy.slo.percentile_ratio
        return ServiceObserved(
            policy=seen.policy,
            pools=pools,
            arrival_rps=self._of(window.arrivals / window.span_s),
            prompt_tokens=self._of(window.prompt_tokens_mean),
            output_tokens=self._of(window.output_tokens_mean),
            running=self._of(float(sum(replica.running for replica in queues))),
            waiting=self._of(float(sum(replica.waiting for replica in queues) + seen.waiting_unrouted)),
            ttft_s=self._of(window.ttft_s(percentile)),
            tpot_s=self._of(window.tpot_s(percentile)),
            sample_requests=self._of(float(window.finished)),
            stress_ratio=self._stress(seen, policy.slo),
            power_w=self._of(seen.window(self._settings.instance_period_s).power_w),
            output_tokens_per_s=self._of(window.output_tokens_per_s),
            gpu_product=product,
            capped=capped,
            classes=seen.classes(self._settings.rate_window_s) if policy.tells_classes else (),
            prompt_cv2_ratio=self._spread(seen),
            lanes=tuple(self._lane(policy, lane) for lane in seen.pools) if len(seen.pools) > 1 else (),
            places=places,
        )

    def _lane(self, policy: Policy, lane: PoolSeen) -> ServiceObserved:
        """Return one of several pools as the live loop would see it."""
        window = lane.window(self._settings.rate_window_s)
        running, waiting = lane.queues
        percentile = policy.slo.percentile_ratio
        return ServiceObserved(
            policy=policy.key,
            pools=(),
            arrival_rps=self._of(window.arrivals / window.span_s),
            running=self._of(float(running)),
            waiting=self._of(float(waiting)),
            ttft_s=self._of(window.ttft_s(percentile)),
            tpot_s=self._of(window.tpot_s(percentile)),
            sample_requests=self._of(float(window.finished)),
            stress_ratio=self._stress(lane, policy.slo.of_phase(lane.phase)),
            lane=lane.pool,
        )

    def _spread(self, seen: ServiceSeen) -> float | None:
        """Return how much prompts vary, over the look-back where few came lately; None where nobody came at all."""
        window = seen.window(WINDOW_S)
        if window.finished < decide.MIN_SAMPLE_REQUESTS:
            window = seen.window(self._settings.lookback_s)
        measured = window.prompt_cv2_ratio
        return None if measured is None else workload.spread_ratio(measured, window.finished)

    def _stress(self, seen: ServiceSeen | PoolSeen, slo: Slo) -> Sample[float]:
        """Return how near the limits the last minutes were; too few requests, or too short a time, say nothing."""
        window = seen.window(WINDOW_S)
        enough = window.finished >= decide.MIN_SAMPLE_REQUESTS and window.span_s >= WINDOW_S
        return self._of(window.stress_ratio(slo) if enough else None)

    def _of(self, value: float | None) -> Sample[float]:
        return Missing(Reason.NO_DATA) if value is None else Fresh(value, self._delay_s)


class Fixed:
    """Replicas per service that never move, without caps of a domain: the fleets of today."""

    caps_power = False
    period_s = 60.0  # it never changes its mind

    def __init__(self, name: str, wants: Sequence[Want]) -> None:
        self.name = name
        self._wants = {want.policy: want for want in wants}

    def start(self, service: Service) -> Want:
        """Begin with what stays."""
        return self._wants[service.policy.key]

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Leave everything as it is."""
        del seen
        return ()


def _wants(decided: PolicyDecision) -> tuple[Want, ...]:
    """Return a plan's pools; the watts that it expects of all of them stand with the first."""
    return tuple(
        Want(
            policy=decided.policy,
            tp=pool.tp,
            replicas=pool.replicas,
            clock_cap_mhz=pool.clock_cap_mhz,
            reason=str(_reason(decided)),
            expected_w=None if index else decided.expected.power_w,
            pool=pool.pool,
            classes=pool.classes,
            weight_ratio=pool.weight_ratio,
            phase=pool.phase,
            power=decided.power,
        )
        for index, pool in enumerate(decided.pools)
    )


def _reason(decided: PolicyDecision) -> Reason:
    """Return the reason that tells more: that of the replicas, unless nothing changed there."""
    quiet = decided.replicas_reason in (Reason.NO_CHANGE_NEEDED, Reason.COOLING_DOWN)
    return decided.clock_reason if quiet else decided.replicas_reason


def _learnt(policy: str, history: Requests, settings: decide.Settings) -> PolicyMemory:
    """Return the memory of an operator that watched the history up to the moment when the trace begins."""
    end_s = float(history.arrival_s[-1])
    window_s = settings.rate_window_s
    times_s = np.arange(max(end_s - settings.lookback_s, window_s), end_s, settings.instance_period_s)
    counts = np.searchsorted(history.arrival_s, times_s, "right")
    counts -= np.searchsorted(history.arrival_s, times_s - window_s, "right")
    rates = tuple(
        (t_s, count / window_s) for t_s, count in zip((times_s - end_s).tolist(), counts.tolist(), strict=True)
    )
    recent = history.arrival_s > end_s - window_s
    prompts = history.prompt_tokens[recent]
    lengths = (float(prompts.mean()), float(history.output_tokens[recent].mean()), cv2_ratio(prompts))
    return PolicyMemory(policy, (PoolMemory(decide.POOL, rates=rates, lengths=lengths),))
