"""One replica of the world: FIFO queue, chunked prefill, continuous batching, KV with preemption, watts and joules.

Who calls it: the rig's serving simulator in real time, and the tests, which hold `replay.kernel` against it. Must not
know: policies, plans, other replicas. Step by step and plain on purpose: it is the reference of a faster kernel, and
its rules are those of the design page (docs/designs/20261121-physics-and-replay.md), one by one.

What it simplifies: prefix caching is off, and a step's power is constant over the step. A board at its stock limit is
not slowed, because the times of a profile were measured with that limit in place; its watts are cut there.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay.waiting import Order, Sequence, Waiting

CLOCK_SWITCH_S = 0.050  # DESIGN 7.1, "clock switch 50 ms": from the call to the first step at the new clock


@dataclass(frozen=True, slots=True)
class Emission:
    """`tokens_out` output tokens of a request exist at `t_s` (a running count, not an increment).

    `handed` says that the request has left with its KV, to be decoded elsewhere.
    """

    request_id: int
    t_s: float
    tokens_out: int
    first: bool
    finished: bool
    handed: bool = False


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


Work = tuple[tuple[Sequence, int], ...]  # who computes how many tokens in a step, in order of admission


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Time of constant power: a step, or idle until the next request is ready (`work` empty)."""

    start_s: float
    end_s: float
    gpu_w: float
    x: float
    work: Work = ()

    @property
    def idle(self) -> bool:
        return not self.work


class Engine:
    """One replica of `profile.tp` GPUs. Time only moves in `advance`; how often it is called changes nothing."""

    def __init__(
        self,
        profile: Profile,
        *,
        now_s: float,
        chunk_tokens: int = 512,
        max_num_seqs: int = 256,
        order: Order = Order.FIFO,
        hands_over: bool = False,
    ) -> None:
        if chunk_tokens < 1 or max_num_seqs < 1:
            raise ValueError("chunk_tokens and max_num_seqs must be at least 1")
        self.profile = profile
        self.hands_over = hands_over
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self.preemptions_total = 0
        self._chunk_tokens = chunk_tokens
        self._max_num_seqs = max_num_seqs
        self._now_s = now_s
        self.squashed_total = 0
        self._waiting = Waiting(profile, order)
        self._running: dict[int, Sequence] = {}  # in order of admission
        self._inside: set[int] = set()
        self._kv_tokens = 0
        self._caps = _Caps()
        self._pending: deque[tuple[float, _Caps]] = deque()
        self._idle_j = 0.0
        self._serving_j = 0.0
        self._stretch = self._idle_until(now_s)

    # --- what the outside does ---------------------------------------------------------------------

    def fits(self, request: Request) -> bool:
        """Return whether the request can ever be served: prompt and output within the KV cache."""
        return request.prompt_tokens + request.output_tokens <= self.profile.kv_tokens

    def submit(
        self, request: Request, now_s: float, *, deadline_s: float = math.inf, patience_s: float = math.inf
    ) -> None:
        """Queue a request that arrives at `now_s` (taken as of the last `advance` where that is later).

        Args:
            request: Its id and lengths.
            now_s: When it arrives.
            deadline_s: When its first token is late; for `Order.LEAST_LAXITY`.
            patience_s: Where it has no token by then, it is refused at the next boundary of steps.

        Raises:
            ValueError: The request is larger than the KV cache (ask `fits` first), or its id is in the engine.
        """
        ready_s = max(now_s, self._now_s) + self.profile.timing.queue_host_s
        goal = request.prompt_tokens
        self._join(Sequence(request, ready_s, goal, deadline_s=deadline_s, patience_s=patience_s))

    def land(self, request: Request, now_s: float) -> None:
        """Queue a request whose first token was made elsewhere and whose KV has come: admitted, it decodes at once.

        Raises:
            ValueError: As `submit`.
        """
        prompt_tokens = request.prompt_tokens
        landed = Sequence(request, max(now_s, self._now_s), goal=prompt_tokens, made=1, computed=prompt_tokens)
        landed.counted = prompt_tokens
        self._join(landed)

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
            emissions += [e for e in self._close() if tokens or e.first or e.finished]
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
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self._kv_tokens

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache that is used, 0 to 1."""
        return self._kv_tokens / self.profile.kv_tokens

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
    def serving_j(self) -> float:
        """Joules of all GPUs in steps, up to the last `advance`."""
        return self._serving_j + (0.0 if self._stretch.idle else self._open_j)

    @property
    def idle_j(self) -> float:
        """Joules of all GPUs between steps, up to the last `advance`."""
        return self._idle_j + (self._open_j if self._stretch.idle else 0.0)

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs from the start to the last `advance`."""
        return self.serving_j + self.idle_j

    @property
    def _open_j(self) -> float:
        return (self._now_s - self._stretch.start_s) * self._stretch.gpu_w * self.profile.tp

    # --- steps -------------------------------------------------------------------------------------

    def _join(self, sequence: Sequence) -> None:
        request = sequence.request
        if not self.fits(request):
            raise ValueError(f"request {request.request_id} needs more KV than the {self.profile.kv_tokens} tokens")
        if request.request_id in self._inside:
            raise ValueError(f"request {request.request_id} is in the engine already")
        self._inside.add(request.request_id)
        self._waiting.join(sequence)
        if self._stretch.idle and self._waiting.ready_s < self._stretch.end_s:
            self._stretch = self._idle_until(self._stretch.start_s)

    def _close(self) -> list[Emission]:
        """End the stretch in progress, book it and start the next one."""
        done = self._stretch
        joules = (done.end_s - done.start_s) * done.gpu_w * self.profile.tp
        if done.idle:
            self._idle_j += joules
        else:
            self._serving_j += joules
        emissions = self._tokens(done)
        self._open(done.end_s)
        return emissions

    def _open(self, now_s: float) -> None:
        while self._pending and self._pending[0][0] <= now_s:
            self._caps = self._pending.popleft()[1]
        for sequence in self._waiting.give_up(now_s):
            self._inside.remove(sequence.request.request_id)
            self.squashed_total += 1
        work = self._schedule(now_s)
        self._stretch = self._step(now_s, work) if work else self._idle_until(now_s)

    def _idle_until(self, start_s: float) -> _Stretch:
        """Return an idle stretch that lasts until the queue's head is ready."""
        return _Stretch(start_s, max(self._waiting.ready_s, start_s), power.idle_w(self.profile), 1.0)

    def _schedule(self, now_s: float) -> Work:
        """Share the step's token budget: running requests first, then the queue while it fits."""
        budget, taken, work = self._chunk_tokens, 0, []
        preempted = False
        for sequence in tuple(self._running.values()):
            take = min(sequence.due, budget)
            while sequence.request.request_id in self._running and not self._holds(taken + take):
                self._preempt()
                preempted = True
            if take == 0 or sequence.request.request_id not in self._running:
                break
            work.append((sequence, take))
            budget, taken = budget - take, taken + take
        while not preempted and budget > 0 and self.running < self._max_num_seqs:
            first = self._waiting.turn(now_s)
            if first is None or not self._holds(taken + first.computed + min(budget, first.due)):
                break
            take = min(budget, first.due)
            self._waiting.take(first)
            self._admit(first)
            work.append((first, take))
            budget, taken = budget - take, taken + take
        return tuple(work)

    def _admit(self, sequence: Sequence) -> None:
        """Add a request to the running ones: last, but who brings its KV before those that compute their prompts."""
        self._kv_tokens += sequence.computed
        self._running[sequence.request.request_id] = sequence
        if sequence.decoding:
            prompts = [key for key, running in self._running.items() if not running.decoding]
            for key in prompts:
                self._running[key] = self._running.pop(key)

    def _holds(self, more_tokens: int) -> bool:
        return self._kv_tokens + more_tokens <= self.profile.kv_tokens

    def _preempt(self) -> None:
        """Send the request that was admitted last back to the head of the queue, without its KV."""
        _, sequence = self._running.popitem()
        self._kv_tokens -= sequence.computed
        sequence.computed = 0
        sequence.goal = sequence.request.prompt_tokens + sequence.made
        self._waiting.send_back(sequence)
        self.preemptions_total += 1

    def _step(self, start_s: float, work: Work) -> _Stretch:
        """Return the step that starts now, at the clock that cap and limit leave."""
        profile = self.profile
        decoding = [sequence for sequence, _ in work if sequence.decoding]
        chunks = [(sequence, take) for sequence, take in work if not sequence.decoding]
        new_tokens = sum(take for _, take in chunks)
        pairs = sum(take * sequence.computed for sequence, take in chunks)
        load = StepLoad(
            batch=len(decoding),
            context_tokens=sum(sequence.computed + 1 for sequence in decoding),
            chunk_tokens=new_tokens,
            prior_tokens=pairs / new_tokens if new_tokens else 0.0,
            prior_context_tokens=sum(sequence.computed for sequence, _ in chunks),
        )
        cap_ratio = profile.clocks.ratio(self._caps.clock_cap_mhz)
        limit_w = math.inf if self._caps.power_limit_w is None else self._caps.power_limit_w
        x = load.limited_ratio(profile, cap_ratio, limit_w)
        end_s = start_s + load.duration_s(profile, x)
        return _Stretch(start_s, end_s, load.gpu_w(profile, x), x, work)

    def _tokens(self, done: _Stretch) -> list[Emission]:
        """Book the tokens of a finished step: one per decoding sequence, and one of each finished prompt."""
        emissions = []
        for sequence, take in done.work:
            sequence.computed += take
            self._kv_tokens += take
            prompt_tokens = min(sequence.computed, sequence.request.prompt_tokens)
            self.prompt_tokens_total += max(prompt_tokens - sequence.counted, 0)
            sequence.counted = max(sequence.counted, prompt_tokens)
            if sequence.decoding:
                emissions.append(self._token(sequence, done.end_s))
        return emissions

    def _token(self, sequence: Sequence, t_s: float) -> Emission:
        """Add a token to a sequence; its last one gives seat and KV back."""
        request = sequence.request
        sequence.made += 1
        self.generation_tokens_total += 1
        finished = sequence.made == request.output_tokens
        handed = self.hands_over and sequence.made == 1 and not finished
        if finished or handed:
            del self._running[request.request_id]
            self._inside.remove(request.request_id)
            self._kv_tokens -= sequence.computed
        first = sequence.made == 1
        return Emission(request.request_id, t_s, sequence.made, first=first, finished=finished, handed=handed)
