"""`static-clock`, `throttllem-like`, `voltana-like`: rules for the clock on top of `hpa-queue`.

Who calls it: `registry`. Must not know: watts; they lower the clock as far as latency lets them.

"Like": the published controllers sit beside one engine and act per iteration on its own state; these see what
everybody sees here (telemetry some seconds old) and set one clock per service. Without a ready pod all go to full
clock (VoltanaLLM's code takes silence for idleness and goes low; that would hurt it here and save nothing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from capstan.model import latency, steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay.autoscalers import defaults, frame, loadtest, queue
from capstan.replay.seen import ReplicaSeen, Service, ServiceSeen

BISECTIONS = 30  # as optimize.sizing


def lowest(profile: Profile, least_mhz: float, keeps: Callable[[float], bool]) -> float | None:
    """Return the lowest grid clock at which `keeps(x)` holds, by bisection; None (full clock) where only that does.

    `keeps` is monotone: what a clock keeps a higher one keeps too.
    """
    c = profile.clocks
    first = max(least_mhz, c.min_mhz)
    low, high = 0, int((c.max_mhz - first) / c.step_mhz + 1e-9)
    top = high
    while low < high:
        middle = (low + high) // 2
        if keeps(c.ratio(first + middle * c.step_mhz)):
            high = middle
        else:
            low = middle + 1
    return None if low == top else c.snapped_mhz(first + low * c.step_mhz)


def rate_holding(profile: Profile, load: Workload, target: float, x: float) -> float:
    """Return the arrival rate at which one replica at clock ratio `x` holds `target` requests in flight."""
    low, high = 0.0, sizing.BRACKET_RPS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        held = loadtest.in_flight(profile, Workload(middle, load.prompt_tokens, load.output_tokens), x)
        if held is not None and held <= target:
            low = middle
        else:
            high = middle
    return low


class StaticClock:
    """One clock, chosen once: at the HPA's target in flight, the steady state still keeps the SLO."""

    def __init__(self, service: Service, d: defaults.StaticClock, test: defaults.LoadTest) -> None:
        self._profile, self._policy = service.profile(service.start.tp), service.policy
        self._d, self._test = d, test
        self._chosen: tuple[float | None] | None = None

    def cap_mhz(self, now_s: float, seen: ServiceSeen) -> float | None:
        """Return full clock until enough has been seen, then the one clock."""
        del now_s
        if self._chosen is None:
            known = loadtest.lengths(seen, self._test)
            if known is None or seen.window(self._test.window_s).span_s < self._d.least_span_s:
                return None
            self._chosen = (self._choice(Workload(0.0, *known)),)
        return self._chosen[0]

    def _choice(self, mix: Workload) -> float | None:
        slo, profile = self._policy.slo, self._profile
        target = loadtest.target(profile, mix, slo, self._test.target_ratio)

        def keeps(x: float) -> bool:
            load = Workload(rate_holding(profile, mix, target, x), mix.prompt_tokens, mix.output_tokens)
            point = steady.operating_point(profile, load, x=x, percentile_ratio=slo.percentile_ratio)
            return sizing.meets(point, slo, margin=self._d.margin_ratio)

        return lowest(profile, self._policy.bounds.min_clock_mhz or 0.0, keeps)


def keeps_projected(  # noqa: PLR0913 - one state, one mix, one limit
    profile: Profile, pod: ReplicaSeen, mix: Workload, slo: Slo, x: float, *, horizon_s: float, margin: float
) -> bool:
    """Return whether a pod keeps the SLO at clock ratio `x` with all it holds and all that comes within the horizon.

    Everything that waits or comes is taken as admitted: batch and KV at their projected peak. TPOT is a step of that
    batch with a full prompt chunk, as it is while prompts come; TTFT is the queue and a long prompt (the tail that
    `model.steady` plans for), chunk by chunk, at that batch. Means instead would miss a p99 that the SLO names.
    """
    coming = mix.arrival_rps * horizon_s
    batch = min(pod.running + pod.waiting + coming, float(profile.max_num_seqs))
    context = frame.held_tokens(pod) + (pod.waiting + coming) * mix.prompt_tokens
    context = min(context + pod.running * mix.output_tokens / 2, float(profile.kv_tokens))
    budget, tokens = float(profile.chunk_tokens), (pod.waiting + steady.PROMPT_TAIL_RATIO) * mix.prompt_tokens
    step_s = latency.mixed_step_s(profile, max(batch, 1.0), context, min(tokens, budget), mix.prompt_tokens / 2, x)
    ttft_s = profile.timing.queue_host_s + math.ceil(tokens / budget) * step_s
    return step_s <= margin * slo.tpot_s and ttft_s <= margin * slo.ttft_s


def _mix(seen: ServiceSeen, span_s: float, pods: Sequence[ReplicaSeen]) -> Workload | None:
    """Return rate per ready pod and mean lengths, None where they are not known."""
    window = seen.window(span_s)
    prompt, output = window.prompt_tokens_mean, window.output_tokens_mean
    if not pods or prompt is None or output is None:
        return None
    return Workload(frame.rate_rps(window) / len(pods), max(prompt, 1.0), max(output, 1.0))


class Throttllem:
    """The lowest clock at which every pod keeps the SLO on its projected state."""

    def __init__(self, service: Service, d: defaults.Throttllem) -> None:
        self._profile, self._policy, self._d = service.profile(service.start.tp), service.policy, d

    def cap_mhz(self, now_s: float, seen: ServiceSeen) -> float | None:
        """Return the clock of the next period; full where nothing is known."""
        del now_s
        pods, d, slo = frame.ready(seen), self._d, self._policy.slo
        mix = _mix(seen, d.rate_window_s, pods)
        if mix is None:
            return None

        def keeps(x: float) -> bool:
            return all(
                keeps_projected(self._profile, pod, mix, slo, x, horizon_s=d.horizon_s, margin=d.margin_ratio)
                for pod in pods
            )

        return lowest(self._profile, self._policy.bounds.min_clock_mhz or 0.0, keeps)


class Voltana:
    """Two clocks: the low one where it keeps the SLO as things stand, nobody waits, and the rate is not high."""

    def __init__(self, service: Service, d: defaults.Voltana) -> None:
        self._profile, self._policy, self._d = service.profile(service.start.tp), service.policy, d

    def cap_mhz(self, now_s: float, seen: ServiceSeen) -> float | None:
        """Return the low clock or full clock."""
        del now_s
        pods, clocks = frame.ready(seen), self._profile.clocks
        low_mhz = clocks.snapped_mhz(self._d.low_ratio * clocks.max_mhz)
        low_mhz = max(low_mhz, self._policy.bounds.min_clock_mhz or 0.0)
        mix = _mix(seen, self._d.rate_window_s, pods)
        if mix is None or seen.waiting_unrouted or any(pod.waiting for pod in pods):
            return None
        x = clocks.ratio(low_mhz)
        limit_rps = sizing.capacity_rps(self._profile, mix, self._policy.slo, x=x, margin=1.0)
        if mix.arrival_rps > self._d.load_ratio * limit_rps:
            return None
        slo = self._policy.slo
        kept = all(keeps_projected(self._profile, pod, mix, slo, x, horizon_s=0.0, margin=1.0) for pod in pods)
        return low_mhz if kept else None


def static_system() -> frame.Autoscaler:
    """Return `static-clock`."""
    d, test = defaults.StaticClock(), defaults.LoadTest()
    return _on_hpa("static-clock", lambda service: StaticClock(service, d, test), d.period_s)


def throttllem_system() -> frame.Autoscaler:
    """Return `throttllem-like`."""
    d = defaults.Throttllem()
    return _on_hpa("throttllem-like", lambda service: Throttllem(service, d), d.period_s)


def voltana_system() -> frame.Autoscaler:
    """Return `voltana-like`."""
    d = defaults.Voltana()
    return _on_hpa("voltana-like", lambda service: Voltana(service, d), d.period_s)


def _on_hpa(name: str, rule: Callable[[Service], frame.ClockRule], period_s: float) -> frame.Autoscaler:
    return frame.Autoscaler(name, queue.scaler, defaults.Hpa().period_s, rule, period_s)
