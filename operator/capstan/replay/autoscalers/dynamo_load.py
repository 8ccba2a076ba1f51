"""`dynamo-load`: the planner of ai-dynamo 1.4.2 for aggregated engines: load loop, and throughput loop as its floor.

Who calls it: `registry`, and the cross-check against the real planner. Must not know: energy.

Source: planner/core/load_scaling.py, throughput_scaling.py and perf_model/agg.py of the published package, retold. Its
regression of step times is replaced by the believed profile, which is what a converged regression would know.
One replica up or down per decision, and none while a change is in flight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.replay.autoscalers import defaults, frame
from capstan.replay.autoscalers.hpa import ceil
from capstan.replay.seen import ReplicaSeen, Service, ServiceSeen, Window


@dataclass(frozen=True, slots=True)
class Engine:
    """What one engine reports: sequences and tokens scheduled, prompt tokens queued."""

    batch: float
    kv_tokens: float
    queued_tokens: float

    def grown(self, ratio: float, queue_ratio: float) -> Engine:
        """Return the engine after it took its share of a removed one."""
        return Engine(self.batch * ratio, self.kv_tokens * ratio, self.queued_tokens * queue_ratio)


def easy(engines: Sequence[Engine], kv_tokens: float, d: defaults.DynamoLoad) -> int:
    """Return +1, 0 or -1 by thresholds on (scheduled + queued) / KV tokens: up if any is above, down if all are below.

    Example: 400,000 tokens of KV, one engine with 380,000 and 40,000 queued: 1.05 > 1.0, so +1.
    """
    usage = [(engine.kv_tokens + engine.queued_tokens) / kv_tokens for engine in engines]
    if any(u > d.up_usage for u in usage):
        return 1
    return -1 if len(engines) > 1 and all(u < d.down_usage for u in usage) else 0


def ttft_s(profile: Profile, engine: Engine, prompt_tokens: float) -> float:
    """Return the TTFT of a next prompt: its own tokens and the queue's, chunk by chunk among the decodes."""
    tokens = engine.queued_tokens + prompt_tokens
    chunks = max(math.ceil(tokens / profile.chunk_tokens), 1)
    per_chunk = tokens / chunks
    prior = frame.prior_tokens(prompt_tokens, per_chunk)
    step_s = latency.mixed_step_s(profile, engine.batch, engine.kv_tokens, per_chunk, prior, 1.0)
    return chunks * step_s


def step_s(profile: Profile, engine: Engine, chunk_tokens: float, prompt_tokens: float) -> float:
    """Return the time between tokens: a step of the batch with the usual prompt chunk in it."""
    full = max(engine.batch, 1.0)
    prior = frame.prior_tokens(prompt_tokens, chunk_tokens)
    return latency.mixed_step_s(profile, full, engine.kv_tokens, chunk_tokens, prior, 1.0)


@dataclass(frozen=True, slots=True)
class Mix:
    """Mean lengths of the moment."""

    prompt_tokens: float
    output_tokens: float

    def chunk_tokens(self, batch: float, most: float) -> float:
        """Return the prompt tokens per step that keep a batch filled: each sequence brings I tokens every O steps."""
        return min(batch * self.prompt_tokens / self.output_tokens, most)


def sla(profile: Profile, engines: Sequence[Engine], mix: Mix, slo: Slo, down_ratio: float) -> int:
    """Return +1 if every engine's estimate misses a limit, -1 if all would stay within 0.8 of both with one fewer."""
    budget = float(profile.chunk_tokens)
    times = [step_s(profile, e, mix.chunk_tokens(e.batch, budget), mix.prompt_tokens) for e in engines]
    if all(ttft_s(profile, e, mix.prompt_tokens) > slo.ttft_s for e in engines) or all(t > slo.tpot_s for t in times):
        return 1
    if len(engines) < 2:
        return 0
    grown = len(engines) / (len(engines) - 1)
    return -1 if all(_survives(profile, e, mix, slo, grown, down_ratio) for e in engines) else 0


def _survives(profile: Profile, engine: Engine, mix: Mix, slo: Slo, grown: float, down_ratio: float) -> bool:
    """Return whether an engine could take a removed one's share: KV, queue-made part of the TTFT, TPOT."""
    after, idle_queue = engine.grown(grown, grown), engine.grown(grown, 0.0)
    if after.kv_tokens + after.queued_tokens >= profile.kv_tokens:
        return False
    own_s = ttft_s(profile, idle_queue, mix.prompt_tokens)
    room_s = (slo.ttft_s - own_s) * down_ratio
    if room_s <= 0 or ttft_s(profile, after, mix.prompt_tokens) - own_s >= room_s:
        return False
    full = Engine(after.batch, after.kv_tokens + after.queued_tokens, 0.0)
    chunk = mix.chunk_tokens(after.batch, float(profile.chunk_tokens))
    return step_s(profile, full, chunk, mix.prompt_tokens) < slo.tpot_s * down_ratio


def engine_rps(profile: Profile, mix: Mix, slo: Slo) -> float:
    """Return the best request rate of one engine inside both limits; that of a batch of 1 where none is.

    The sweep stops at the KV cache, at `max_num_seqs`, where prompts no longer fit beside the batch
    (b I / O <= budget - b), and where a limit breaks.
    """
    budget, context = float(profile.chunk_tokens), mix.prompt_tokens + mix.output_tokens / 2
    most = min(profile.kv_tokens / context, profile.max_num_seqs, budget / (1 + mix.prompt_tokens / mix.output_tokens))
    best = 0.0
    for batch in range(1, max(int(most), 1) + 1):
        chunk = mix.chunk_tokens(batch, budget)
        engine = Engine(batch, batch * context, chunk)
        wall_s = step_s(profile, engine, chunk, mix.prompt_tokens)
        within = wall_s <= slo.tpot_s and ttft_s(profile, engine, mix.prompt_tokens) <= slo.ttft_s
        if not within and batch > 1:
            break
        best = min(batch / (mix.output_tokens * wall_s), max(budget - batch, 0.0) / (mix.prompt_tokens * wall_s))
        if not within:
            break
    return best


class Planner:
    """One service: the load loop every 5 s, its floor every 180 s."""

    def __init__(self, service: Service, d: defaults.DynamoLoad) -> None:
        self._limits, self._d = frame.Limits.of(service), d
        self._profile, self._slo = service.profile(service.start.tp), service.policy.slo
        self._floor = d.least_replicas
        self._throughput = frame.Timer(d.throughput_period_s)

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the new count; None while a change is in flight or nothing is known."""
        pods, window = frame.ready(seen), seen.window(self._d.lengths_window_s)
        mix = _mix(pods, window, sla=self._d.sla)
        if mix is None:
            return None
        if self._d.sla and self._throughput.due(now_s):
            one_rps = engine_rps(self._profile, mix, self._slo)
            self._floor = max(ceil(frame.rate_rps(window) / one_rps), self._d.least_replicas)
        if not pods or len(pods) != seen.desired or frame.starting(seen):
            return None
        engines = [Engine(pod.running, frame.held_tokens(pod), pod.waiting * mix.prompt_tokens) for pod in pods]
        if self._d.sla:
            change = sla(self._profile, engines, mix, self._slo, self._d.down_ratio)
        else:
            change = easy(engines, self._profile.kv_tokens, self._d)
        return self._limits.clip(max(seen.desired + change, self._floor))


def _mix(pods: Sequence[ReplicaSeen], window: Window, *, sla: bool) -> Mix | None:
    """Return mean lengths of what has finished.

    Its engines report queued prompt tokens themselves, so before anything has finished the threshold modes, which need
    no output length, take what a running sequence holds for a prompt.
    """
    prompt, output = window.prompt_tokens_mean, window.output_tokens_mean
    if prompt is not None and output is not None:
        return Mix(max(prompt, 1.0), max(output, 1.0))
    running = sum(pod.running for pod in pods)
    if sla or running == 0:
        return None
    return Mix(max(sum(map(frame.held_tokens, pods)) / running, 1.0), 1.0)


def system() -> frame.Autoscaler:
    """Return `dynamo-load`: SLA mode."""
    return _of("dynamo-load", defaults.DynamoLoad())


def easy_system() -> frame.Autoscaler:
    """Return the mode that ships: thresholds on KV usage, no SLO."""
    return _of("dynamo-load-throughput", defaults.DynamoLoad(sla=False))


def easy_latency_system() -> frame.Autoscaler:
    """Return the other threshold mode."""
    return _of("dynamo-load-latency", defaults.DynamoLoad(sla=False, up_usage=0.4, down_usage=0.1))


def _of(name: str, d: defaults.DynamoLoad) -> frame.Autoscaler:
    return frame.Autoscaler(name, lambda service: Planner(service, d), d.period_s)
