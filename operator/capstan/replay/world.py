"""One replica of the world: FIFO queue, chunked prefill, continuous batching, a KV limit, watts and joules.

Who calls it: `replay.pool` in virtual time and the rig's serving simulator in real time. Must not know: policies,
plans, other replicas. Step by step and plain on purpose: it is the reference that a faster kernel is held against.

What it simplifies: KV of prompt and whole output is reserved at admission (no preemption), prefix caching is off,
and a step's power is constant over the step. A board at its stock limit is not slowed, because the times of a
profile were measured with that limit in place; its watts are cut there.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.model.workload import Request

CLOCK_SWITCH_S = 0.050  # DESIGN 7.1, "clock switch 50 ms": from the call to the first step at the new clock


@dataclass(frozen=True, slots=True)
class Emission:
    """`tokens_out` output tokens of a request exist at `t_s` (a running count, not an increment)."""

    request_id: int
    t_s: float
    tokens_out: int
    first: bool
    finished: bool


@dataclass(frozen=True, slots=True)
class StepLoad:
    """What one step works on: decoding sequences with their contexts, and prompt chunks with what precedes them.

    `prior_tokens` is the mean over the step's new prompt tokens of the context before them.
    """

    batch: int
    context_tokens: int
    chunk_tokens: int
    prior_tokens: float
    prior_context_tokens: int

    def duration_s(self, profile: Profile, x: float) -> float:
        """Return the step's time at clock ratio `x`."""
        return latency.mixed_step_s(profile, self.batch, self.context_tokens, self.chunk_tokens, self.prior_tokens, x)

    def gpu_w(self, profile: Profile, x: float) -> float:
        """Return watts of one GPU during the step at clock ratio `x`, under the stock limit."""
        return power.mixed_w(
            profile,
            self.batch,
            self.context_tokens,
            self.chunk_tokens,
            self.prior_tokens,
            self.prior_context_tokens,
            x,
        )

    def limited_ratio(self, profile: Profile, cap_ratio: float, limit_w: float) -> float:
        """Return the clock ratio at which the step runs under a clock cap and a board limit."""
        return power.limited_ratio(
            profile,
            self.batch,
            self.context_tokens,
            self.chunk_tokens,
            self.prior_tokens,
            self.prior_context_tokens,
            cap_ratio,
            limit_w,
        )


@dataclass(frozen=True, slots=True)
class _Caps:
    """What the node asks of the GPUs; None: nothing below stock."""

    clock_cap_mhz: float | None = None
    power_limit_w: float | None = None


@dataclass(slots=True)
class _Sequence:
    """A request inside the engine. `ready_s`: the host has tokenised it; `joined` is the step of its first token."""

    request: Request
    ready_s: float
    prefilled: int = 0
    joined: int = 0

    @property
    def kv_tokens(self) -> int:
        return self.request.prompt_tokens + self.request.output_tokens

    @property
    def last_step(self) -> int:
        return self.joined + self.request.output_tokens - 1


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Time of constant power: a step, or idle until the next request is ready (`chunks` and `batch` empty)."""

    start_s: float
    end_s: float
    gpu_w: float
    x: float
    batch: int = 0
    chunks: tuple[tuple[_Sequence, int], ...] = ()

    @property
    def idle(self) -> bool:
        return not self.batch and not self.chunks


class Engine:
    """One replica of `profile.tp` GPUs. Time only moves in `advance`; how often it is called changes nothing."""

    def __init__(self, profile: Profile, *, now_s: float, chunk_tokens: int = 512, max_num_seqs: int = 256) -> None:
        if chunk_tokens < 1 or max_num_seqs < 1:
            raise ValueError("chunk_tokens and max_num_seqs must be at least 1")
        self.profile = profile
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self._chunk_tokens = chunk_tokens
        self._max_num_seqs = max_num_seqs
        self._now_s = now_s
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: deque[_Sequence] = deque()
        self._decoding: dict[int, _Sequence] = {}
        self._finishing: list[tuple[int, int, int]] = []  # heap of (last step, join order, request id)
        self._inside: set[int] = set()
        self._steps = 0
        self._joins = 0
        self._context_tokens = 0
        self._reserved_tokens = 0
        self._caps = _Caps()
        self._pending: deque[tuple[float, _Caps]] = deque()
        self._closed_j = 0.0
        self._stretch = self._idle_until(now_s)

    # --- what the outside does ---------------------------------------------------------------------

    def fits(self, request: Request) -> bool:
        """Return whether the request can ever be served: prompt and output within the KV cache."""
        return request.prompt_tokens + request.output_tokens <= self.profile.kv_tokens

    def submit(self, request: Request, now_s: float) -> None:
        """Queue a request that arrives at `now_s` (taken as of the last `advance` where that is later).

        Raises:
            ValueError: The request is larger than the KV cache (ask `fits` first), or its id is in the engine.
        """
        if not self.fits(request):
            raise ValueError(f"request {request.request_id} needs more KV than the {self.profile.kv_tokens} tokens")
        if request.request_id in self._inside:
            raise ValueError(f"request {request.request_id} is in the engine already")
        self._inside.add(request.request_id)
        ready_s = max(now_s, self._now_s) + self.profile.timing.queue_host_s
        if self._waiting:  # FIFO: nobody is ready before who came first
            ready_s = max(ready_s, self._waiting[-1].ready_s)
        self._waiting.append(_Sequence(request, ready_s))
        if self._stretch.idle and ready_s < self._stretch.end_s:
            self._stretch = self._idle_until(self._stretch.start_s)

    def set_caps(self, now_s: float, *, clock_cap_mhz: float | None, power_limit_w: float | None) -> None:
        """Ask for a clock cap and a board limit; they hold from the first step that starts 50 ms later."""
        caps = _Caps(clock_cap_mhz, power_limit_w)
        asked = self._pending[-1][1] if self._pending else self._caps
        if caps != asked:
            self._pending.append((max(now_s, self._now_s) + CLOCK_SWITCH_S, caps))

    def advance(self, to_s: float, *, tokens: bool = True) -> list[Emission]:
        """Play everything that ends up to `to_s` and return what came out, in time order.

        Args:
            to_s: Not before the last `advance`.
            tokens: False returns only first and last tokens, which is all that a score needs.
        """
        if to_s < self._now_s:
            raise ValueError("time runs backwards")
        emissions: list[Emission] = []
        while self._stretch.end_s <= to_s:
            emissions += self._close(tokens=tokens)
        self._now_s = to_s
        return emissions

    # --- what the outside sees ---------------------------------------------------------------------

    @property
    def next_event_s(self) -> float:
        """When the state next changes by itself; inf when idle with an empty queue."""
        return self._stretch.end_s

    @property
    def running(self) -> int:
        """Sequences admitted and not finished."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache that is reserved, 0 to 1."""
        return self._reserved_tokens / self.profile.kv_tokens

    @property
    def idle(self) -> bool:
        """No request runs or waits."""
        return self._stretch.idle and not self._waiting

    @property
    def power_w(self) -> float:
        """Watts of one GPU now."""
        return self._stretch.gpu_w

    @property
    def sm_clock_mhz(self) -> float:
        """The SM clock of the step in progress; when idle, the clock that a step would run at under the cap."""
        if not self._stretch.idle:
            return self._stretch.x * self.profile.clocks.max_mhz
        in_force = [caps for effective_s, caps in self._pending if effective_s <= self._now_s]
        cap_mhz = (in_force[-1] if in_force else self._caps).clock_cap_mhz
        return self.profile.clocks.ratio(cap_mhz) * self.profile.clocks.max_mhz

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs from the start to the last `advance`."""
        open_j = (self._now_s - self._stretch.start_s) * self._stretch.gpu_w * self.profile.tp
        return self._closed_j + open_j

    # --- steps -------------------------------------------------------------------------------------

    def _close(self, *, tokens: bool) -> list[Emission]:
        """End the stretch in progress, book it and start the next one."""
        done = self._stretch
        self._closed_j += (done.end_s - done.start_s) * done.gpu_w * self.profile.tp
        emissions = [] if done.idle else self._finish_step(done, tokens=tokens)
        self._open(done.end_s)
        return emissions

    def _open(self, now_s: float) -> None:
        while self._pending and self._pending[0][0] <= now_s:
            self._caps = self._pending.popleft()[1]
        chunks = self._schedule(now_s)
        self._stretch = self._step(now_s, chunks) if chunks or self._decoding else self._idle_until(now_s)

    def _idle_until(self, start_s: float) -> _Stretch:
        """Return an idle stretch that lasts until the queue's head is ready."""
        end_s = self._waiting[0].ready_s if self._waiting else math.inf
        return _Stretch(start_s, max(end_s, start_s), power.idle_w(self.profile), 1.0)

    def _schedule(self, now_s: float) -> tuple[tuple[_Sequence, int], ...]:
        """Share the step's token budget: decodes first, then prompts under way, then the queue while it fits."""
        budget = self._chunk_tokens - len(self._decoding)
        chunks = []
        for sequence in self._prefilling:
            if budget <= 0:
                break
            take = min(budget, sequence.request.prompt_tokens - sequence.prefilled)
            chunks.append((sequence, take))
            budget -= take
        while budget > 0 and self._admits(now_s):
            sequence = self._waiting.popleft()
            self._reserved_tokens += sequence.kv_tokens
            self._prefilling.append(sequence)
            take = min(budget, sequence.request.prompt_tokens)
            chunks.append((sequence, take))
            budget -= take
        return tuple(chunks)

    def _admits(self, now_s: float) -> bool:
        """Return whether the queue's head may start; where it may not, it blocks those behind it."""
        if not self._waiting or self.running >= self._max_num_seqs:
            return False
        head = self._waiting[0]
        return head.ready_s <= now_s and self._reserved_tokens + head.kv_tokens <= self.profile.kv_tokens

    def _step(self, start_s: float, chunks: tuple[tuple[_Sequence, int], ...]) -> _Stretch:
        """Return the step that starts now, at the clock that cap and limit leave."""
        profile = self.profile
        new_tokens = sum(take for _, take in chunks)
        pairs = sum(take * sequence.prefilled for sequence, take in chunks)
        load = StepLoad(
            batch=len(self._decoding),
            context_tokens=self._context_tokens,
            chunk_tokens=new_tokens,
            prior_tokens=pairs / new_tokens if new_tokens else 0.0,
            prior_context_tokens=sum(sequence.prefilled for sequence, _ in chunks),
        )
        cap_ratio = profile.clocks.ratio(self._caps.clock_cap_mhz)
        limit_w = math.inf if self._caps.power_limit_w is None else self._caps.power_limit_w
        x = load.limited_ratio(profile, cap_ratio, limit_w)
        end_s = start_s + load.duration_s(profile, x)
        return _Stretch(start_s, end_s, load.gpu_w(profile, x), x, load.batch, chunks)

    def _finish_step(self, done: _Stretch, *, tokens: bool) -> list[Emission]:
        """Book the tokens of a finished step: one per decoding sequence, and the first of each finished prompt."""
        self._steps += 1
        self.generation_tokens_total += done.batch
        self._context_tokens += done.batch
        emissions = self._every_token(done.end_s) if tokens else []
        finished = self._finished(done.end_s)
        if not tokens:
            emissions = finished
        for sequence, take in done.chunks:
            sequence.prefilled += take
            self.prompt_tokens_total += take
            if sequence.prefilled == sequence.request.prompt_tokens:
                emissions.append(self._first_token(sequence, done.end_s))
        return emissions

    def _every_token(self, t_s: float) -> list[Emission]:
        """Return one emission per decoding sequence, finished ones included, in the order in which they joined."""
        return [
            Emission(key, t_s, self._steps - seq.joined + 1, first=False, finished=seq.last_step == self._steps)
            for key, seq in self._decoding.items()
        ]

    def _finished(self, t_s: float) -> list[Emission]:
        """Release the sequences whose last token this step made, and return their last emissions."""
        emissions = []
        while self._finishing and self._finishing[0][0] == self._steps:
            sequence = self._decoding.pop(heapq.heappop(self._finishing)[2])
            self._context_tokens -= sequence.kv_tokens
            self._leave(sequence)
            request = sequence.request
            emissions.append(Emission(request.request_id, t_s, request.output_tokens, first=False, finished=True))
        return emissions

    def _first_token(self, sequence: _Sequence, t_s: float) -> Emission:
        """Move a sequence from prefill to decode; one of a single output token is done with it."""
        request = sequence.request
        self._prefilling.remove(sequence)
        self.generation_tokens_total += 1
        finished = request.output_tokens == 1
        if finished:
            self._leave(sequence)
        else:
            sequence.joined = self._steps
            self._joins += 1
            self._decoding[request.request_id] = sequence
            self._context_tokens += request.prompt_tokens + 1
            heapq.heappush(self._finishing, (sequence.last_step, self._joins, request.request_id))
        return Emission(request.request_id, t_s, 1, first=True, finished=finished)

    def _leave(self, sequence: _Sequence) -> None:
        self._reserved_tokens -= sequence.kv_tokens
        self._inside.remove(sequence.request.request_id)
