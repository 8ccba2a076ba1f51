"""The steady state that a replica reaches under a load and a clock: batch, latency quantiles, mean watts.

Who calls it: `optimize`. A lower clock lengthens steps, longer steps hold more sequences, more sequences lengthen
steps: the batch is a fixed point, here in closed form because a decode step is affine in the batch.

What is approximated, and checked against the world in tests/replay/test_queueing.py and docs/explanation/queueing.md:
arrivals are Poisson; the number of decoding sequences is Poisson around its mean (M/G/inf); prompts queue for the chunk
budget as M/G/1; of the lengths only the means are known, their spread is that of published traces.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TypedDict

from capstan.model import latency, power, tiers, waiting
from capstan.model.profile import Profile
from capstan.model.workload import PROMPT_CV2, Phase, Workload

PROMPT_TAIL_RATIO = 3.67
"""p99 over mean prompt length where `prompt_cv2_ratio` is `PROMPT_CV2`: 3.33, 3.67, 4.02 in the three traces of that
constant; the next one is theirs, too."""

SHORT_OUTPUT_RATIO = 0.2
"""p10 of output lengths over their mean: 0.23, 0.25, 0.05. Few tokens average over few steps: the tail of TPOT is
theirs."""

END_STEPS = 1.0
"""Half a step until the running one ends, half a step because the last chunk is not full: both uniform."""

MAX_SHARE = 0.97
"""Above this share of busy time the formulas say nothing useful: the queue is longer than any SLO."""

NEWTON_STEPS = 12
NEWTON_PRECISION = 1e-4
"""Relative size of the last correction; the batch is then right to about its square."""

PERCENTILE_RATIO = 0.99  # of latencies, where nobody asks for another: the percentile of DESIGN 7.1's limits

REMEMBERED = 1 << 14
"""Engines at some lengths and clock: a search for a capacity asks for one a dozen times, one for a clock in most cycles
(500 policies ask for some twenty each; 0.5 kB each)."""

PROMPT_TAIL_CV2 = waiting.gamma_cv2(PROMPT_TAIL_RATIO, waiting.normal_quantile(0.99))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One replica in steady state. Latencies at the quantile asked for; `gpu_w` is the mean of one GPU.

    `tiered` says TTFT of the prompts that end at each length asked for, None where none is; `ttft_s` is that of all the
    load's prompts.
    """

    batch: float
    ttft_s: float
    tpot_s: float
    gpu_w: float
    kv_usage: float
    tiered: tiers.Tiers | None = None


@dataclass(slots=True)  # not frozen: made for every look, and a frozen one takes three times as long to make
class Latencies:
    """What an SLO limits of an operating point, and nothing that only watts need."""

    ttft_s: float
    tpot_s: float
    tiered: tiers.Tiers | None = None


class Asked(TypedDict, total=False):
    """What else a steady state is asked by; `operating_point` says what each is, and has the defaults."""

    x: float
    replicas: int
    percentile_ratio: float
    tiers_tokens: tuple[float, ...]


@dataclass(slots=True)
class _Engine:
    """One replica's steps at some lengths and clock: what the fixed point evaluates, worked out once for all rates.

    Attributes:
        base_s: A step's constant part. stream_s, token_s: of its matrix products. sequence_s: growth per sequence,
            its context included.
        chunk_tokens, chunks_ratio: Prompt tokens in a step; a prompt's tokens over them. chunk_base_s: what each takes
            more; attention_s: of the whole prompt.
    """

    profile: Profile
    x_ratio: float
    base_s: float
    stream_s: float
    token_s: float
    bend: float
    sequence_s: float
    chunk_tokens: float
    chunks_ratio: float
    chunk_base_s: float
    attention_s: float
    plain: bool

    def linear_s(self, tokens: float) -> float:
        """Return `latency.linear_s` of these many tokens."""
        if self.plain and tokens <= latency.PREFILL_KINK_TOKENS:
            return latency.soft_max(self.stream_s, self.token_s * tokens, self.bend)
        return latency.linear_s(self.profile, tokens, self.x_ratio)

    def growth_s(self, tokens: float, linear_s: float) -> float:
        """Return the slope of `linear_s` over tokens there."""
        return self.token_s * math.pow(self.token_s * tokens / linear_s, self.bend - 1)


@dataclass(slots=True)
class _Queue:
    """Prompts before the chunk budget: steps per prompt, their time, the share of time in which any is taken.

    `batch` sequences decode beside them, in steps of `step_s` without a prompt; `wait` is what prompts do before.
    """

    batch: float
    step_s: float
    steps_ratio: float
    service_s: float
    busy_ratio: float
    wait: waiting.Wait


@dataclass(slots=True)
class _State:
    """A replica in its steady state: what latencies and watts are worked out from."""

    engine: _Engine
    queue: _Queue
    prompt_s: float
    normal_ratio: float
    kv_usage: float


@functools.lru_cache(maxsize=REMEMBERED)
def _engine(profile: Profile, lengths: tuple[float, float, float], x: float) -> _Engine:
    t, load = profile.timing, Workload(0.0, *lengths)
    slowdown, compute = latency.decode_slowdown(profile, x), latency.prefill_slowdown(profile, x)
    chunk = min(load.prompt_tokens, profile.chunk_tokens)
    return _Engine(
        profile=profile,
        x_ratio=x,
        base_s=t.host_s - t.per_sequence_s * slowdown,
        stream_s=t.weights_s * slowdown,
        token_s=t.prefill_per_token_s * compute,
        bend=t.bend,
        sequence_s=(t.per_sequence_s + t.per_context_token_s * load.context_tokens) * slowdown,
        chunk_tokens=chunk,
        chunks_ratio=load.prompt_tokens / chunk,
        chunk_base_s=t.prefill_base_s,
        attention_s=t.attention_per_token2_s * load.prompt_tokens**2 * (1 + load.prompt_cv2_ratio) / 2 * compute,
        plain=t.expert_weights_s <= 0,
    )


def _step_s(engine: _Engine, batch: float) -> float:
    """Return a decode step with `batch` sequences of this load's mean context, at least one."""
    full = max(batch, 1.0)
    return engine.base_s + engine.linear_s(full) + engine.sequence_s * full


def _prompt_s(engine: _Engine, batch: float) -> float:
    """Return what one prompt adds to the steps that it shares with `batch` decoding sequences."""
    added = engine.linear_s(batch + engine.chunk_tokens) - engine.linear_s(batch)
    return engine.chunks_ratio * (engine.chunk_base_s + added) + engine.attention_s


def _batch(engine: _Engine, load: Workload) -> float | None:
    """Return the mean number of decoding sequences, or None where no steady state exists.

    In a steady state as many tokens are made as are asked for: batch x (1 - share of prompts) = tokens/s x step.
    """
    rps = load.arrival_rps
    tokens_rps = rps * load.output_tokens
    batch = tokens_rps * _step_s(engine, 0.0)
    for _ in range(NEWTON_STEPS):
        linear, mixed = engine.linear_s(batch), engine.linear_s(batch + engine.chunk_tokens)
        prompt_s = engine.chunks_ratio * (engine.chunk_base_s + mixed - linear) + engine.attention_s
        free = 1 - rps * prompt_s
        slope = engine.growth_s(batch, linear)
        prompt_slope = engine.chunks_ratio * (engine.growth_s(batch + engine.chunk_tokens, mixed) - slope)
        if batch >= 1:
            made = batch * free - tokens_rps * (engine.base_s + linear + engine.sequence_s * batch)
            rise = free - batch * rps * prompt_slope - tokens_rps * (slope + engine.sequence_s)
        else:
            made, rise = batch * free - tokens_rps * _step_s(engine, 1.0), free - batch * rps * prompt_slope
        if rise <= 1 - MAX_SHARE:
            return None
        change = made / rise
        batch -= change
        if abs(change) <= NEWTON_PRECISION * batch:
            return batch
    return None


def _queue(
    engine: _Engine, load: Workload, *, batch: float, prompt_s: float, step_s: float, replicas: int
) -> _Queue | None:
    """Return the queue for the chunk budget, or None where it never ends; decoding sequences take their tokens first.

    Attention grows with the square of a prompt's length, so that service varies more than lengths do.
    """
    room_tokens = max(engine.profile.chunk_tokens - batch, 1.0)
    steps = engine.chunks_ratio * max(engine.chunk_tokens / room_tokens, 1.0)
    service_s = steps * step_s + prompt_s
    busy = load.arrival_rps * service_s
    if busy >= MAX_SHARE:
        return None
    cv2 = load.prompt_cv2_ratio * (1 + engine.attention_s / service_s) ** 2
    if load.phase is Phase.PREFILL:
        wait = waiting.of_prompts(load.arrival_rps, service_s, cv2_ratio=cv2, replicas=replicas)
    else:
        wait = waiting.of(load.arrival_rps, service_s, cv2_ratio=cv2, batch=batch, replicas=replicas)
    return _Queue(batch, step_s, steps, service_s, busy, wait)


def _ttft_s(engine: _Engine, load: Workload, queue: _Queue) -> tuple[float, float]:
    """Return mean and variance of TTFT without its host time: the wait, the own prompt, and a step at each end.

    The quantile of a sum is not the sum of quantiles: mean and variance of wait and prompt are added, and the sum is
    taken for a gamma variate.
    """
    steeper = (1 + engine.attention_s / queue.service_s) ** 2
    own_s2 = PROMPT_TAIL_CV2 * load.prompt_cv2_ratio / PROMPT_CV2 * steeper * queue.service_s**2
    mean_s = queue.wait.all_mean_s + queue.service_s + END_STEPS * queue.step_s
    return mean_s, queue.wait.all_variance_s2 + own_s2


def _tiers(
    state: _State, load: Workload, tokens: tuple[float, ...], replicas: int, ttft: tuple[float, float]
) -> tiers.Tiers | None:
    """Return the tiers that end at these lengths, each beginning where the one before does; None: none is asked for."""
    if not tokens:
        return None
    engine, queue, host_s = state.engine, state.queue, state.engine.profile.timing.queue_host_s
    found, shortest, below = [], 0.0, 0.0
    known = {short.tokens: short for short in load.short_prompts}
    for longest in tokens:
        short = known.get(longest)
        if short is None:
            up_to = tiers.below_ratio(longest, mean_tokens=load.prompt_tokens, cv2_ratio=load.prompt_cv2_ratio)
            middle_tokens, largest_ratio = (shortest + longest) / 2, up_to - below
        else:
            up_to, middle_tokens, largest_ratio = max(short.share_ratio, below), short.mean_tokens, short.largest_ratio
        middle_s, longest_s = (_own_s(engine, load, queue, at) for at in (middle_tokens, longest))
        largest_rps = largest_ratio * load.arrival_rps * replicas
        found.append(tiers.Tier(up_to - below, largest_rps, host_s + middle_s, host_s + longest_s))
        shortest, below = longest, up_to
    return tiers.Tiers(tuple(found), queue.wait, host_s, ttft[0], math.sqrt(ttft[1]))


def _own_s(engine: _Engine, load: Workload, queue: _Queue, tokens: float) -> float:
    """Return the time from its turn to its first token of a prompt of `tokens`, half a running step before included."""
    chunk = min(tokens, max(engine.profile.chunk_tokens - queue.batch, 1.0))
    chunks = math.ceil(tokens / chunk - 1e-9)  # of one known length: whole steps, where a mean of many takes parts
    added_s = engine.chunk_base_s + engine.linear_s(queue.batch + chunk) - engine.linear_s(queue.batch)
    own_s = chunks * queue.step_s + tokens / chunk * added_s + engine.attention_s * (tokens / load.prompt_tokens) ** 2
    return own_s + END_STEPS / 2 * queue.step_s


def _tpot_s(engine: _Engine, load: Workload, queue: _Queue, *, prompt_s: float, z: float) -> float:
    """Return the TPOT quantile: steps without and with a prompt's chunk, mixed differently for every request.

    Work done is work asked for, so that a step takes step / (1 - share of prompts) in the mean. A request of n tokens
    meets a chunk in a share of its n steps: that share varies as the busy time of the queue does (variance rate
    lambda E[S^2]), is bounded by all of them, and n is short where it matters. The batch varies by itself.
    """
    batch, step_s = queue.batch, queue.step_s
    mean_s = step_s / (1 - load.arrival_rps * prompt_s)
    met = min(load.arrival_rps * queue.steps_ratio * mean_s, 1.0)
    clump = queue.steps_ratio * (1 + load.prompt_cv2_ratio) / (1 - queue.busy_ratio)
    variance = met * (1 - met) * clump / (clump + SHORT_OUTPUT_RATIO * load.output_tokens)
    chunks_s = (min(waiting.gamma_quantile(met, variance, z), 1.0) - met) * prompt_s / queue.steps_ratio
    batch_s = _step_s(engine, batch + z * math.sqrt(batch)) - step_s
    squares_s2 = chunks_s * abs(chunks_s) + batch_s * abs(batch_s)  # independent: in quadrature, each with its sign
    return mean_s + math.copysign(math.sqrt(abs(squares_s2)), squares_s2)


def _gpu_w(engine: _Engine, load: Workload, *, batch: float, prompt_s: float, step_s: float) -> float:
    """Return mean watts of one GPU: decoding, prefilling and idle by their shares of time."""
    profile, x, chunk = engine.profile, engine.x_ratio, engine.chunk_tokens
    chunk_step_s = step_s + prompt_s / engine.chunks_ratio
    prefilling = load.arrival_rps * engine.chunks_ratio * chunk_step_s
    idle_share = math.exp(-(batch + prefilling)) if load.phase is Phase.BOTH else max(1 - prefilling, 0.0)
    busy_batch = max(batch / max(1 - idle_share, 1e-9), 1.0)
    context = busy_batch * load.context_tokens
    decode_w = power.step_w(profile, busy_batch, context, _step_s(engine, busy_batch), x)
    prefill_w = power.step_w(profile, busy_batch + chunk, context, chunk_step_s, x)
    prefill_share = min(prefilling, 1 - idle_share)
    decode_share = 1 - idle_share - prefill_share
    mean_w = decode_share * decode_w + prefill_share * prefill_w + idle_share * power.idle_w(profile)
    return min(mean_w, profile.draw.limit_w)


def _state(profile: Profile, load: Workload, *, x: float, replicas: int, percentile_ratio: float) -> _State | None:
    """Return the steady state of one replica, or None where none exists."""
    engine = _engine(profile, (load.prompt_tokens, load.output_tokens, load.prompt_cv2_ratio), x)
    batch = _batch(engine, load)
    if batch is None:
        return None
    z = waiting.normal_quantile(percentile_ratio)
    high_batch = batch + z * math.sqrt(batch)
    usage = high_batch * (load.prompt_tokens + load.output_tokens) / profile.kv_tokens
    if usage >= 1 or high_batch >= profile.max_num_seqs:
        return None
    step_s = _step_s(engine, batch)
    prompt_s = _prompt_s(engine, batch)
    queue = _queue(engine, load, batch=batch, prompt_s=prompt_s, step_s=step_s, replicas=replicas)
    return None if queue is None else _State(engine, queue, prompt_s, z, usage)


def _latencies(state: _State, load: Workload, tiers_tokens: tuple[float, ...], replicas: int) -> Latencies:
    engine, queue, z = state.engine, state.queue, state.normal_ratio
    ttft = _ttft_s(engine, load, queue)
    return Latencies(
        ttft_s=engine.profile.timing.queue_host_s + waiting.gamma_quantile(*ttft, z),
        tpot_s=_tpot_s(engine, load, queue, prompt_s=state.prompt_s, z=z),
        tiered=_tiers(state, load, tiers_tokens, replicas, ttft),
    )


def latencies(
    profile: Profile,
    load: Workload,
    *,
    x: float = 1.0,
    replicas: int = 1,
    percentile_ratio: float = PERCENTILE_RATIO,
    tiers_tokens: tuple[float, ...] = (),
) -> Latencies | None:
    """Return the latencies of `operating_point`: who asks only whether limits are kept need not wait for watts."""
    state = _state(profile, load, x=x, replicas=replicas, percentile_ratio=percentile_ratio)
    return None if state is None else _latencies(state, load, tiers_tokens, replicas)


def operating_point(
    profile: Profile,
    load: Workload,
    *,
    x: float = 1.0,
    replicas: int = 1,
    percentile_ratio: float = PERCENTILE_RATIO,
    tiers_tokens: tuple[float, ...] = (),
) -> OperatingPoint | None:
    """Return the steady state of one replica under `load` at clock ratio `x`, or None where none exists.

    Args:
        profile: The physics.
        load: Demand on this one replica.
        x: Clock ratio in (0, 1].
        replicas: How many like it share the arrivals of their pool.
        percentile_ratio: Quantile of the latencies, as the SLO's.
        tiers_tokens: Ascending prompt lengths at which tiers end whose TTFT is asked for, too.
    """
    state = _state(profile, load, x=x, replicas=replicas, percentile_ratio=percentile_ratio)
    if state is None:
        return None
    queue, known = state.queue, _latencies(state, load, tiers_tokens, replicas)
    return OperatingPoint(
        batch=queue.batch,
        ttft_s=known.ttft_s,
        tpot_s=known.tpot_s,
        gpu_w=_gpu_w(state.engine, load, batch=queue.batch, prompt_s=state.prompt_s, step_s=queue.step_s),
        kv_usage=state.kv_usage,
        tiered=known.tiered,
    )
