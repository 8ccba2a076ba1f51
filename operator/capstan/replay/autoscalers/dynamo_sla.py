"""`dynamo-sla`: the older formula of NVIDIA's SLA planner, still the one widely described.

Who calls it: `registry`. Must not know: queues.

Source: `_compute_replica_requirements` of components/planner/.../planner_core.py, retold. It scaled prefill and decode
engines apart and said that aggregated mode is not supported. Here one engine does both, so its two counts, each rounded
up as there, are added: replicas = ceil(prefill engines) + ceil(decode engines).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay.autoscalers import defaults, frame
from capstan.replay.autoscalers.hpa import ceil
from capstan.replay.seen import Service, ServiceSeen


@dataclass(frozen=True, slots=True)
class Corrections:
    """Measured over expected: of TTFT (queueing makes it large) and of the time per output token."""

    prefill: float = 1.0
    decode: float = 1.0


def prefill_engines(load: Workload, tokens_per_s: float, correction: float) -> float:
    """Return engines for the prompts. Example: 10 rps x 1000 tokens x min(1, 0.5) over 10,000 tokens/s: 0.5."""
    return load.arrival_rps * load.prompt_tokens * min(1.0, correction) / tokens_per_s


def decode_engines(load: Workload, tokens_per_s: float) -> float:
    """Return engines for the outputs. Example: 10 rps x 200 tokens over 4,000 tokens/s: 0.5."""
    return load.arrival_rps * load.output_tokens / tokens_per_s


def prompt_s(profile: Profile, prompt_tokens: float) -> float:
    """Return the time of one prompt on an idle engine, chunk by chunk as it runs it: what the sweep measures."""
    chunks = math.ceil(prompt_tokens / profile.chunk_tokens)
    per_chunk = prompt_tokens / chunks
    prior = frame.prior_tokens(prompt_tokens, per_chunk)
    return chunks * latency.mixed_step_s(profile, 0.0, 0.0, per_chunk, prior, 1.0)


def decode_tokens_per_s(profile: Profile, context_tokens: float, tpot_s: float) -> float:
    """Return the best decode throughput of one engine within `tpot_s`; that of a batch of 1 where none is within it."""
    most = max(min(profile.max_num_seqs, int(profile.kv_tokens / context_tokens)), 1)
    low, high = 1, most
    while low < high:  # a step only lengthens with the batch, and batch / step rises
        middle = (low + high + 1) // 2
        if latency.decode_step_s(profile, middle, middle * context_tokens, 1.0) <= tpot_s:
            low = middle
        else:
            high = middle - 1
    return low / latency.decode_step_s(profile, low, low * context_tokens, 1.0)


def replicas(profile: Profile, load: Workload, slo: Slo, c: Corrections) -> int:
    """Return the replicas for a load, before bounds."""
    context = load.context_tokens
    prefill_rate = load.prompt_tokens / prompt_s(profile, load.prompt_tokens)
    limit_s = slo.tpot_s / c.decode if c.decode > 0 else slo.tpot_s
    decode_rate = decode_tokens_per_s(profile, context, limit_s)
    return ceil(prefill_engines(load, prefill_rate, c.prefill)) + ceil(decode_engines(load, decode_rate))


class Planner:
    """One service: every 180 s, from what the last 180 s brought."""

    def __init__(self, service: Service, d: defaults.DynamoSla) -> None:
        self._limits, self._d = frame.Limits.of(service), d
        self._profile, self._slo = service.profile(service.start.tp), service.policy.slo

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the new count; None where nothing was served (the planner skips an interval without traffic)."""
        del now_s
        window, d = seen.window(self._d.period_s), self._d
        prompt, output = window.prompt_tokens_mean, window.output_tokens_mean
        ttft_s, tpot_s = window.ttft_s(d.mean_quantile_ratio), window.tpot_s(d.mean_quantile_ratio)
        engines = len(frame.ready(seen))
        if prompt is None or output is None or ttft_s is None or engines == 0:
            return None
        load = Workload(frame.rate_rps(window), max(prompt, 1.0), max(output, 1.0))
        decode = 1.0 if tpot_s is None else self._decode_correction(load, engines, ttft_s, tpot_s)
        expected_s = self._profile.timing.queue_host_s + prompt_s(self._profile, load.prompt_tokens)
        wanted = replicas(self._profile, load, self._slo, Corrections(ttft_s / expected_s, decode))
        return self._limits.clip(max(wanted, d.least_replicas))

    def _decode_correction(self, load: Workload, engines: int, ttft_s: float, tpot_s: float) -> float:
        """Return measured over expected TPOT; concurrency is arrivals per engine x a request's duration."""
        duration_s = ttft_s + load.output_tokens * tpot_s
        batch = max(load.arrival_rps / engines * duration_s, 1.0)
        context = load.context_tokens
        return tpot_s / latency.decode_step_s(self._profile, batch, batch * context, 1.0)


def system() -> frame.Autoscaler:
    """Return `dynamo-sla`."""
    d = defaults.DynamoSla()
    return frame.Autoscaler("dynamo-sla", lambda service: Planner(service, d), d.period_s)
