"""One replica in real time: the world's engine, woken at its own events, and the streams that its tokens feed.

The engine decides when a token is there; this file only sleeps until then. A late wake-up delays a chunk on the wire,
never a time that is booked: metrics use the engine's own moments.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, groupby

from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay.world import Emission, Engine
from rig.simulator import exposition, vllm
from rig.simulator.pods import EngineArgs

STREAM_INTERVAL_TOKENS = (
    8  # tokens per SSE chunk after the first: one chunk per token would cost a core at 2,000 tokens/s
)


Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Caps:
    """What the board lets the replica do: the tightest of its GPUs. None: no cap."""

    clock_cap_mhz: float | None = None
    power_limit_w: float | None = None


class Stream:
    """One request's tokens on their way to its client."""

    __slots__ = ("_due", "_interval", "_read", "_wake", "aborted", "finished", "first_s", "last_s", "made", "request",
                 "scheduled_s")  # fmt: skip

    def __init__(self, request: Request, interval_tokens: int) -> None:
        self.request = request
        self.scheduled_s = request.arrival_s
        self.first_s = self.last_s = request.arrival_s
        self.made = 0  # tokens so far
        self.finished = False
        self.aborted = False  # the client went away: the engine finishes it, nobody reads it
        self._interval = interval_tokens
        self._read = 0
        self._due = 1  # the reader wakes when so many tokens are made: the first at once, then a chunk's worth
        self._wake: asyncio.Future[None] | None = None

    def push(self, emission: Emission) -> None:
        """Take an emission; wakes the reader when a chunk is due."""
        self.made = emission.tokens_out
        self.last_s = emission.t_s
        self.finished = emission.finished
        if (self.made >= self._due or self.finished) and self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether every token that there will ever be was read."""
        return self.finished and self._read == self.made

    async def tokens(self) -> int:
        """Return the tokens since the last call, waiting for a chunk's worth. Zero only where all were read.

        The first call returns the first token alone, however late the event loop woke: a client books that chunk's
        arrival as the first token's, and shares the time to the next chunk among that one's tokens.
        """
        while self.made < self._due and not self.finished:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        upto = self.made if self._read else min(self.made, 1)
        taken = upto - self._read
        self._read = upto
        self._due = upto + self._interval
        return taken


class Replica:
    """The engine of one pod, in a running event loop. `advance` may be called at any time; `close` when it is over.

    Times are those of `clock`; in service that is `time.monotonic`, the event loop's own clock, so timers fit it.
    """

    def __init__(
        self,
        profile: Profile,
        args: EngineArgs,
        *,
        clock: Clock = time.monotonic,
        stream_interval_tokens: int = STREAM_INTERVAL_TOKENS,
    ) -> None:
        self.profile = profile
        self._clock = clock
        self.engine = Engine(
            profile,
            now_s=self._clock(),
            chunk_tokens=args.max_num_batched_tokens or profile.chunk_tokens,
            max_num_seqs=args.max_num_seqs or profile.max_num_seqs,
        )
        self.max_model_len = min(args.max_model_len or profile.kv_tokens, profile.kv_tokens)
        self.metrics = vllm.Metrics(
            vllm.Config(args.model_name, self.max_model_len, profile.kv_tokens, overrides=args.buckets)
        )
        self.model_name = args.model_name
        self._interval_tokens = stream_interval_tokens
        self._ids = count()
        self._streams: dict[int, Stream] = {}
        self._queue: deque[Stream] = deque()  # not scheduled yet, in the engine's order (FIFO)
        self._prompt_tokens_seen = 0
        self._caps = Caps()
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, prompt_tokens: int, output_tokens: int) -> Stream:
        """Queue a request now and return the stream of its tokens."""
        now_s = self._clock()
        self.advance(now_s)
        request = Request(next(self._ids), now_s, prompt_tokens, output_tokens)
        stream = Stream(request, self._interval_tokens)
        self._streams[request.request_id] = stream
        self._queue.append(stream)
        self.engine.submit(request, now_s)
        self._rearm()
        return stream

    def set_caps(self, caps: Caps, now_s: float) -> None:
        """Put the board's caps in force; a repetition changes nothing. `now_s` is not before the last `advance`."""
        if caps == self._caps:
            return
        self.advance(now_s)
        self._caps = caps
        self.engine.set_caps(now_s, clock_cap_mhz=caps.clock_cap_mhz, power_limit_w=caps.power_limit_w)
        self._rearm()

    def advance(self, to_s: float) -> None:
        """Let the engine run up to `to_s`, book what it did and hand out its tokens."""
        emissions = self.engine.advance(to_s)
        self._note_scheduled(to_s)
        self._book_iterations(emissions)
        for emission in emissions:
            self._deliver(emission)

    def close(self) -> None:
        """Stop the timer: the engine stands still from here on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def page(self) -> bytes:
        """Return the replica's `/metrics` page as of now."""
        self.advance(self._clock())
        engine = self.engine
        now = vllm.Now(
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_usage,
            prompt_tokens_total=engine.prompt_tokens_total,
            generation_tokens_total=engine.generation_tokens_total,
        )
        return exposition.page(self.metrics.lines(now))

    def _tick(self) -> None:
        self.advance(self._clock())
        self._rearm()

    def _rearm(self) -> None:
        self.close()
        due_s = self.engine.next_event_s
        if due_s < float("inf"):
            self._timer = asyncio.get_running_loop().call_at(due_s, self._tick)

    def _note_scheduled(self, now_s: float) -> None:
        while len(self._queue) > self.engine.waiting:
            self._queue.popleft().scheduled_s = now_s

    def _book_iterations(self, emissions: list[Emission]) -> None:
        """Book tokens per step: each emission is a token, one moment is one step; prompt tokens go to the last."""
        steps = [sum(1 for _ in step) for _, step in groupby(emissions, key=lambda e: e.t_s)] or [0]
        steps[-1] += self.engine.prompt_tokens_total - self._prompt_tokens_seen
        self._prompt_tokens_seen = self.engine.prompt_tokens_total
        for tokens in steps:
            if tokens:
                self.metrics.iteration(tokens)

    def _deliver(self, emission: Emission) -> None:
        stream = self._streams[emission.request_id]
        if emission.first:
            stream.scheduled_s = min(stream.scheduled_s, emission.t_s)
            stream.first_s = emission.t_s
            self.metrics.first_token(emission.t_s - stream.request.arrival_s)
        else:
            self.metrics.gap(emission.t_s - stream.last_s)
        stream.push(emission)
        if emission.finished:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        request = stream.request
        del self._streams[request.request_id]
        self.metrics.finish(
            vllm.Finished(
                reason="abort" if stream.aborted else "length",
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                arrival_s=request.arrival_s,
                scheduled_s=stream.scheduled_s,
                first_s=stream.first_s,
                finish_s=stream.last_s,
            )
        )
