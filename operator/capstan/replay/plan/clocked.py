"""What a clock does to a server that serves: how much of its GPUs' watts is left, and how much longer requests take.

Who calls it: `planned`. Must not know: traces, budgets. Everything is the profile's own (`model.latency`,
`model.power`), at the steady state of one kind of request.

Assumption: a slower server is asked for as much as before, so it holds more sequences and prefills for longer; it does
not come to be busy where it was idle. A service's requests are all as long as its mean: at constant caps the
medians of the request-level row lie within 15 % of these slowdowns (tests/replay/plan/test_clocked.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.replay.row import orders, workloads
from capstan.replay.runs import Floats

LOAD_RATIO = 0.5
"""How much of what it could serve a busy server is asked for: `loadPercent` of policies/scenarios/polca-row.yaml, at
which a row rises as POLCA's does."""

HALF = 0.5 - 1e-9

MOST_STEPS = 10_000  # of the fixed point below: it ends far earlier wherever there is one


@dataclass(frozen=True, slots=True)
class Request:
    """The request that stands for a service's, in tokens, and the service's share of the servers."""

    prompt_tokens: float
    output_tokens: float
    share_ratio: float = 1.0

    @property
    def context_tokens(self) -> float:
        """Mean context while it decodes."""
        return self.prompt_tokens + self.output_tokens / 2


@dataclass(frozen=True, slots=True, eq=False)
class Clocked:
    """What each clock does to the servers of one priority.

    Attributes:
        clocks_mhz: What the board supports, ascending, `[clock]`.
        kept_ratio: What is left of the GPUs' watts above idle, `[clock]`.
        slowdown_ratio: How much longer a request takes, `[service, clock]`; inf: the server does not keep up.
        ttft_slowdown_ratio: The same of its first token.
        requests_ratio: Each service's share of the requests, `[service]`.
    """

    clocks_mhz: Floats
    kept_ratio: Floats
    slowdown_ratio: Floats
    ttft_slowdown_ratio: Floats
    requests_ratio: Floats

    def index(self, clock_mhz: float | None) -> int:
        """Return the index of the highest clock that is not above one; None is the highest of all."""
        return orders.index(self.clocks_mhz, clock_mhz)

    def kept(self, clock_mhz: float | None) -> float:
        """Return what is left under a cap of the GPUs' watts above idle."""
        return float(self.kept_ratio[self.index(clock_mhz)])

    @property
    def median_slowdown_ratio(self) -> Floats:
        """Return the slowdown that half of the requests stay at or below, `[clock]`."""
        order = np.argsort(self.slowdown_ratio, axis=0, kind="stable")
        half = np.argmax(np.cumsum(self.requests_ratio[order], axis=0) >= HALF, axis=0)
        ordered = np.take_along_axis(self.slowdown_ratio, order, axis=0)
        return np.asarray(ordered[half, np.arange(len(half))])


@dataclass(frozen=True, slots=True, eq=False)
class Clocks:
    """What each clock does to the servers of low and of high priority."""

    low: Clocked
    high: Clocked


@dataclass(frozen=True, slots=True)
class _Steady:
    """A server in its steady state: sequences, share of the time in prefill, latencies, watts of a GPU above idle."""

    batch: float
    prefills_ratio: float
    ttft_s: float
    e2e_s: float
    active_w: float


def services(low_ratio: float) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
    """Return the services of low and of high priority: POLCA's mix (facts/polca.md 1.5) at a share of low priority."""
    kinds = workloads.mix(low_ratio)

    def of_priority(low: bool) -> tuple[Request, ...]:
        return tuple(
            Request(sum(kind.prompt_tokens) / 2, sum(kind.output_tokens) / 2, kind.share_ratio)
            for kind in kinds
            if kind.low is low
        )

    return of_priority(low=True), of_priority(low=False)


def of(profile: Profile, requests: tuple[Request, ...]) -> Clocked:
    """Return what each clock does to the servers of some services; without any, nothing.

    Raises:
        ValueError: The KV cache does not hold one such request.
    """
    grid = profile.clocks
    steps = int((grid.max_mhz - grid.min_mhz) / grid.step_mhz + 1e-9)
    mhz = np.asarray(grid.min_mhz + grid.step_mhz * np.arange(steps + 1), np.float64)
    if not requests:
        return Clocked(mhz, np.ones(len(mhz)), np.zeros((1, len(mhz))), np.zeros((1, len(mhz))), np.ones(1))
    served = [_served(profile, request, mhz / grid.max_mhz) for request in requests]
    active_w = np.array([[one.share_ratio * at.active_w for at in one.each] for one in served]).sum(axis=0)
    return Clocked(
        clocks_mhz=mhz,
        kept_ratio=np.minimum(active_w / sum(one.share_ratio * one.full.active_w for one in served), 1.0),
        slowdown_ratio=np.array([[max(at.e2e_s / one.full.e2e_s - 1, 0.0) for at in one.each] for one in served]),
        ttft_slowdown_ratio=np.array(
            [[max(at.ttft_s / one.full.ttft_s - 1, 0.0) for at in one.each] for one in served]
        ),
        requests_ratio=np.array([one.per_s for one in served]) / sum(one.per_s for one in served),
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """One service: its share of the servers, its share of the requests' rate, its state at full and at each clock."""

    share_ratio: float
    per_s: float
    full: _Steady
    each: tuple[_Steady, ...]


def _served(profile: Profile, request: Request, ratios: Floats) -> _Served:
    slots = min(int(profile.kv_tokens // (request.prompt_tokens + request.output_tokens)), profile.max_num_seqs)
    if slots < 1:
        raise ValueError(
            f"--profile {profile.name}: its KV cache of {profile.kv_tokens:,} tokens does not hold one request of "
            f"{request.prompt_tokens:.0f} + {request.output_tokens:.0f}; give shorter --prompt-tokens, --output-tokens"
        )
    per_s = LOAD_RATIO * _most_per_s(profile, request, slots)
    full = _steady(profile, request, per_s, slots, 1.0)
    each = tuple(_steady(profile, request, per_s, slots, float(x)) for x in ratios)
    return _Served(request.share_ratio, request.share_ratio * per_s, full, each)


def _most_per_s(p: Profile, request: Request, slots: int) -> float:
    """Return the requests per second at full clock and with full slots: of each, a prefill and its share of steps."""
    step_s = latency.decode_step_s(p, slots, slots * request.context_tokens, 1.0)
    prefill_s = latency.prefill_step_s(p, request.prompt_tokens, 1.0)
    return 1 / (prefill_s + request.output_tokens * step_s / slots)


def _steady(p: Profile, request: Request, per_s: float, slots: int, x: float) -> _Steady:
    """Return the steady state at a clock: a prompt is computed alone, for that long nobody decodes (`row.physics`).

    Little's law gives the batch: as many as arrive while one stays. The first token waits for prompts before it
    (Pollaczek and Khinchine, constant service).
    """
    prefill_s = latency.prefill_step_s(p, request.prompt_tokens, x)
    prefills = min(per_s * prefill_s, 1.0)
    batch = _batch(p, request, per_s, slots, x) if prefills < 1 else math.inf
    held = min(batch, float(slots))
    step_s = latency.decode_step_s(p, held, held * request.context_tokens, x)
    if batch > slots:
        ttft_s = e2e_s = math.inf
    else:
        ttft_s = prefill_s + prefills * prefill_s / (2 * (1 - prefills))
        e2e_s = ttft_s + request.output_tokens * step_s / (1 - prefills)
    decode_w = power.step_w(p, held, held * request.context_tokens, step_s, x)
    prefill_w = power.mixed_w(p, 0.0, 0.0, request.prompt_tokens, 0.0, 0.0, x)
    active_w = prefills * prefill_w + (1 - prefills) * decode_w - power.idle_w(p)
    return _Steady(batch, prefills, ttft_s, e2e_s, active_w)


def _batch(p: Profile, request: Request, per_s: float, slots: int, x: float) -> float:
    """Return the batch that holds itself, by going up from one; inf where there is none within the slots."""
    prefills = per_s * latency.prefill_step_s(p, request.prompt_tokens, x)
    batch = 1.0
    for _ in range(MOST_STEPS):
        step_s = latency.decode_step_s(p, batch, batch * request.context_tokens, x)
        after = max(per_s * request.output_tokens * step_s / (1 - prefills), 1.0)
        if after > slots:
            return math.inf
        if after - batch < 1e-9 * after:
            return after
        batch = after
    return math.inf
