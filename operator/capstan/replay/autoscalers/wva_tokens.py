"""`wva-v2`: llm-d's token analyser: how many tokens a replica holds before its queue grows, and how many are asked for.

Who calls it: `registry`. Must not know: latencies.

Its capacity for pods that still start is counted as supply, so unlike V1 it needs no freeze. Prefix caching is off in
this world (hit ratio 0), and what waits before the pool is known by its count, not its bytes.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

from capstan.model.profile import Profile
from capstan.replay.autoscalers import defaults, frame, hpa, wva
from capstan.replay.seen import Service, ServiceSeen

BUCKETS_TOKENS = (100.0, 500.0)  # [C] output lengths below 100, below 500, more: facts section 1.1


def computed_tokens(profile: Profile, prompt_tokens: float, output_tokens: float) -> float:
    """Return k2 before anything was observed: N (I + O / 2) with N = min(B O / (I + O), S).

    Example: B = 512, S = 256, I = 1000, O = 200: N = min(85.3, 256), k2 = 85.3 x 1100 = 93,867 tokens.
    """
    both = prompt_tokens + output_tokens
    running = min(profile.chunk_tokens * output_tokens / both, float(profile.max_num_seqs))
    return running * (prompt_tokens + output_tokens / 2)


def bucket(output_tokens: float) -> int:
    """Return the output bucket whose history counts."""
    return sum(output_tokens >= edge for edge in BUCKETS_TOKENS)


def change(demand: float, *, ready: float, pending: float, one: float, d: defaults.WvaV2) -> int:
    """Return the replicas to add or remove; tokens throughout, `one` is a replica's capacity.

    Example: one = 100, demand 190, ready 200: 190 / 0.85 - 200 = 23.5: +1. Demand 60: 200 - 60 / 0.70 = 114.3: -1.
    """
    required = demand / d.up_ratio - (ready + pending)
    if required > 0:
        return hpa.ceil(required / one)
    spare = ready - demand / d.down_ratio
    return -math.floor(spare / one + hpa.DUST) if spare > 0 else 0


class Tokens:
    """The analyser of one service, with what it has observed of a replica's capacity per output bucket."""

    def __init__(self, service: Service, d: defaults.WvaV2) -> None:
        self._limits, self._d = frame.Limits.of(service), d
        self._profile = service.profile(service.start.tp)
        self._held: dict[int, deque[float]] = {}
        self._desired: int | None = None

    def advise(self, now_s: float, seen: ServiceSeen) -> int:
        """Return its word of this minute; unchanged until lengths are known."""
        del now_s
        if self._desired is None:
            self._desired = seen.desired
        window, pods = seen.window(self._d.lengths_window_s), frame.ready(seen)
        prompt, output = window.prompt_tokens_mean, window.output_tokens_mean
        if prompt is None or output is None or not pods:
            return self._desired
        key = bucket(output)
        self._observe(key, [(pod.waiting, frame.held_tokens(pod)) for pod in pods])
        one = self._capacity(key, prompt, output)
        demand = sum(frame.held_tokens(pod) + pod.waiting * prompt for pod in pods) + seen.waiting_unrouted * (
            prompt + output
        )
        pending = max(seen.desired - len(pods), 0) * one
        added = change(demand, ready=len(pods) * one, pending=pending, one=one, d=self._d)
        self._desired = self._limits.clip(max(seen.desired + added, 1))
        return self._desired

    def _observe(self, key: int, pods: Sequence[tuple[int, float]]) -> None:
        held = self._held.setdefault(key, deque(maxlen=self._d.history))
        held.extend(tokens for waiting, tokens in pods if waiting >= self._d.queue_threshold)

    def _capacity(self, key: int, prompt: float, output: float) -> float:
        memory = self._d.kv_usage * self._profile.kv_tokens
        held = self._held.get(key)
        compute = statistics.fmean(held) if held else computed_tokens(self._profile, prompt, output)
        return max(min(memory, compute), 1.0)


def scaler(service: Service) -> hpa.Hpa:
    """Return both stages of one service."""
    d = defaults.WvaV2()
    return wva.staged(service, Tokens(service, d), d.period_s)


def system() -> frame.Autoscaler:
    """Return `wva-v2`."""
    return frame.Autoscaler("wva-v2", scaler, defaults.Hpa().period_s)
