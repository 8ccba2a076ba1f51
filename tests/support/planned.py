"""A small true world for plans: engines that come and go at once, least-loaded routing, DESIGN 7.1's score.

Made of `world.Engine`, the step-by-step reference; no start-up, no telemetry: what `oracle` is allowed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay.runs import Floats, Requests
from capstan.replay.searches.demand import Limits
from capstan.replay.searches.plans import Plan
from capstan.replay.searches.trial import Trial
from capstan.replay.world import Engine

WINDOW_S, MIN_WINDOW, WINDOWS_RATIO = 300.0, 100, 0.95  # DESIGN 7.1, written a second time on purpose


def columns(requests: Iterable[Request]) -> Requests:
    """Turn requests into columns."""
    rows = [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in requests]
    arrival_s, prompt, output = zip(*rows, strict=True)
    return Requests(np.array(arrival_s), np.array(prompt, dtype=np.int64), np.array(output, dtype=np.int64))


@dataclass(slots=True)
class _Seat:
    engine: Engine
    tp: int
    draining: bool = False


@dataclass(slots=True)
class PlannedWorld:
    """Plays plans over one trace. `runs` counts them."""

    profiles: tuple[Profile, ...]
    requests: Requests
    limits: Limits
    runs: int = 0
    seats: list[_Seat] = field(default_factory=list)
    gone_j: float = 0.0

    def __call__(self, plan: Plan) -> Trial:
        """Play one plan to the last token and score it."""
        self.runs += 1
        self.seats, self.gone_j = [], 0.0
        first, finish = np.full(len(self.requests), math.inf), np.full(len(self.requests), math.inf)
        tick_s, now_s, at = min(plan.clock_s, plan.slot_s), 0.0, 0
        held: list[int] = []
        booked: list[float] = []
        while at < len(self.requests) or held or any(not seat.engine.idle for seat in self.seats):
            self._apply(plan, now_s)
            end_s = now_s + tick_s
            while at < len(self.requests) and self.requests.arrival_s[at] < end_s:
                arrival_s = float(self.requests.arrival_s[at])
                self._advance(arrival_s, first, finish)
                held.append(at)
                held = self._route(held, arrival_s)
                at += 1
            held = self._route(held, now_s) if held else held
            self._advance(end_s, first, finish)
            now_s = end_s
            booked.append(self.gone_j + sum(seat.engine.energy_j for seat in self.seats))
        return self._score(first, finish, np.diff([0.0, *booked]))

    def _route(self, held: list[int], now_s: float) -> list[int]:
        ready = [seat.engine for seat in self.seats if not seat.draining]
        if not ready:
            return held
        for i in held:
            engine = min(ready, key=lambda e: e.running + e.waiting)
            request = Request(i, now_s, int(self.requests.prompt_tokens[i]), int(self.requests.output_tokens[i]))
            engine.submit(request, now_s)
        return []

    def _apply(self, plan: Plan, now_s: float) -> None:
        fleet = plan.fleet(now_s)
        staying = [seat for seat in self.seats if not seat.draining and seat.tp == fleet.tp]
        staying.sort(key=lambda seat: -(seat.engine.running + seat.engine.waiting))
        for seat in self.seats:
            seat.draining = not any(seat is kept for kept in staying[: fleet.replicas])
        profile = next(p for p in self.profiles if p.tp == fleet.tp)
        for _ in range(fleet.replicas - len(staying)):
            engine = Engine(profile, now_s=now_s, chunk_tokens=profile.chunk_tokens, max_num_seqs=profile.max_num_seqs)
            self.seats.append(_Seat(engine, fleet.tp))
        for seat in self.seats:
            seat.engine.set_caps(now_s, clock_cap_mhz=plan.clock_cap_mhz(now_s), power_limit_w=None)
        for seat in [s for s in self.seats if s.draining and s.engine.idle]:
            self.gone_j += seat.engine.energy_j
            self.seats.remove(seat)

    def _advance(self, to_s: float, first: Floats, finish: Floats) -> None:
        for seat in self.seats:
            for e in seat.engine.advance(to_s, tokens=False):
                if e.first:
                    first[e.request_id] = e.t_s
                if e.finished:
                    finish[e.request_id] = e.t_s

    def _score(self, first: Floats, finish: Floats, tick_j: Floats) -> Trial:
        pace_s = (finish - first) / np.maximum(self.requests.output_tokens - 1, 1)
        good = (first - self.requests.arrival_s <= self.limits.ttft_s) & (pace_s <= self.limits.tpot_s)
        window = (self.requests.arrival_s / WINDOW_S).astype(int)
        count, kept = np.bincount(window), np.bincount(window, weights=good)
        full = count >= MIN_WINDOW
        passed = kept[full] / count[full] >= self.limits.percentile_ratio
        met = good.mean() >= self.limits.percentile_ratio and (not full.any() or passed.mean() >= WINDOWS_RATIO)
        return Trial(bool(met), float(tick_j.sum()), float(good.mean()), good, tick_j)


def with_tp(profile: Profile, tp: int) -> Profile:
    """A profile of another degree: memory and compute times scale with the GPUs, host time does not."""
    ratio, t, w = profile.tp / tp, profile.timing, profile.work
    timing = dataclasses.replace(
        t,
        weights_s=t.weights_s * ratio,
        per_sequence_s=t.per_sequence_s * ratio,
        per_context_token_s=t.per_context_token_s * ratio,
        prefill_per_token_s=t.prefill_per_token_s * ratio,
        prefill_per_token_long_s=t.prefill_per_token_long_s * ratio,
        attention_per_token2_s=t.attention_per_token2_s * ratio,
    )
    work = dataclasses.replace(
        w,
        weight_bytes=w.weight_bytes * ratio,
        kv_bytes_per_token=w.kv_bytes_per_token * ratio,
        flops_per_token=w.flops_per_token * ratio,
    )
    return dataclasses.replace(profile, name=f"test-tp{tp}", tp=tp, timing=timing, work=work)
