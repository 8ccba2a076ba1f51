"""The target of an HPA on requests in flight, found as its guides say: push one replica to the latency limit.

Who calls it: `queue` and `clocks`. Must not know: pods, time beyond its own period.

GKE's guide on autoscaling LLM inference ("use batch size where latency matters; find the threshold by a load test")
leaves the figure to the reader. Here the believed profile is the test bench.
"""

from __future__ import annotations

from capstan.model import latency, steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay.autoscalers import defaults, frame
from capstan.replay.autoscalers.frame import Timer
from capstan.replay.seen import Service, ServiceSeen

LEAST_TARGET = 1.0  # an HPA target is above zero; a replica that cannot hold one request has no better


def in_flight(profile: Profile, load: Workload, x: float = 1.0) -> float | None:
    """Return the mean requests inside one replica under `load` at clock ratio `x`; None where its queue only grows.

    Little: the decoding ones (batch), plus arrivals x the time a prompt takes among them (prefill).
    """
    point = steady.operating_point(profile, load, x=x)
    if point is None:
        return None
    context = load.context_tokens
    chunk = min(load.prompt_tokens, profile.chunk_tokens)
    prior = frame.prior_tokens(load.prompt_tokens, chunk)
    step_s = latency.mixed_step_s(profile, point.batch, point.batch * context, chunk, prior, x)
    return point.batch + load.arrival_rps * load.prompt_tokens / chunk * step_s


def target(profile: Profile, load: Workload, slo: Slo, share: float) -> float:
    """Return the in-flight requests per replica to aim for: a share of those at the SLO's limit, at full clock."""
    limit_rps = sizing.capacity_rps(profile, load, slo)
    held = in_flight(profile, Workload(limit_rps, load.prompt_tokens, load.output_tokens)) if limit_rps > 0 else None
    return max((held or 0.0) * share, LEAST_TARGET)


def lengths(seen: ServiceSeen, d: defaults.LoadTest) -> tuple[float, float] | None:
    """Return mean (prompt, output) tokens of what has finished, None while that is too little to tell."""
    window = seen.window(d.window_s)
    prompt, output = window.prompt_tokens_mean, window.output_tokens_mean
    if window.finished < d.least_requests or prompt is None or output is None:
        return None
    return max(prompt, 1.0), max(output, 1.0)


class Target:
    """The target of one service, found again as the mix of lengths moves."""

    def __init__(self, service: Service, d: defaults.LoadTest) -> None:
        self._profile = service.profile(service.start.tp)
        self._slo = service.policy.slo
        self._d = d
        self._timer = Timer(d.period_s)
        self._value = self._found((d.prompt_tokens, d.output_tokens))
        self._measured = False

    def value(self, now_s: float, seen: ServiceSeen) -> float:
        """Return in-flight requests per replica; the first lengths that are seen count at once."""
        if self._timer.due(now_s) or not self._measured:
            found = lengths(seen, self._d)
            if found is not None:
                self._value, self._measured = self._found(found), True
        return self._value

    def _found(self, mean_tokens: tuple[float, float]) -> float:
        return target(self._profile, Workload(0.0, *mean_tokens), self._slo, self._d.target_ratio)
