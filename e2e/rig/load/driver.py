"""The open loop: every request at its time, retried elsewhere until its first token, at most for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TextIO

import aiohttp

from rig.load import client
from rig.load.balance import Backend, Balancer

RETRY_FOR_S = 10.0  # five times the longest TTFT limit of DESIGN 7.1: a request that waits longer is long since bad
RETRY_PAUSE_S = 0.05
DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of `requests.jsonl`: `t` is its arrival, seconds after the start."""

    policy: str
    id: int
    t: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of `outcomes.jsonl`; times are seconds after the start, `arrival_s` the planned one."""

    policy: str
    id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float | None
    finish_s: float | None
    pod: str | None
    retries: int
    error: str | None


@dataclass(slots=True)
class _Course:
    """What a request has been through: the pod asked last, how often any was, and who has refused in this round."""

    pod: str | None = None
    attempts: int = 0
    refused: set[str] = field(default_factory=set)


def read(lines: Iterable[str]) -> list[Planned]:
    """Return the requests of a JSON-lines file, by arrival.

    Raises:
        ValueError: A line lacks a field or has one too many; the message says which line.
    """
    planned = [_planned(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return sorted(planned, key=lambda request: request.t)


def _planned(number: int, line: str) -> Planned:
    try:
        return Planned(**json.loads(line))
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"requests, line {number}: {error}; write policy, id, t, prompt_tokens, output_tokens"
        ) from error


class Driver:
    """Plays requests against whatever pods the balancer knows.

    Args:
        session: The HTTP client; closed by whoever made it.
        balancer: Kept up to date by whoever watches the pods.
        clock: Seconds since the run's start; negative before it.
        out: Where outcomes go, one line each, as they happen.
    """

    def __init__(
        self, session: aiohttp.ClientSession, balancer: Balancer, clock: Callable[[], float], out: TextIO
    ) -> None:
        self._session = session
        self._balancer = balancer
        self._clock = clock
        self._out = out
        self.done = 0
        self.failed = 0

    async def play(self, requests: Sequence[Planned], *, drain_s: float = DRAIN_S) -> None:
        """Send every request at its time; return when all are done, or `drain_s` after the last arrival."""
        tasks: set[asyncio.Task[None]] = set()
        for request in requests:
            await asyncio.sleep(request.t - self._clock())
            task = asyncio.create_task(self._one(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _one(self, request: Planned) -> None:
        """Ask until an engine answers; whatever happens, one outcome is written."""
        course = _Course()
        try:
            answer = await self._answered(request, course)
        except asyncio.CancelledError:
            answer = client.Answer(error="deadline")  # the drain is over: the outcome is the answer to the cancellation
        self._write(request, answer, course)

    async def _answered(self, request: Planned, course: _Course) -> client.Answer:
        """Return the first answer that is not worth another try, or the last one when the time to retry is over."""
        answer = client.Answer(error="no Ready pod")
        give_up_s = self._clock() + RETRY_FOR_S
        while answer.retriable and self._clock() < give_up_s:
            backend = self._balancer.take(request.policy, course.refused)
            if backend is None:
                course.refused.clear()  # all have refused, or there is none: wait a little, then ask any
                await self._balancer.changed(RETRY_PAUSE_S)
            else:
                answer = await self._ask(backend, request, course)
        return answer

    async def _ask(self, backend: Backend, request: Planned, course: _Course) -> client.Answer:
        course.pod = backend.pod
        course.attempts += 1
        course.refused.add(backend.uid)
        what = client.Ask(backend.model, request.prompt_tokens, request.output_tokens)
        try:
            return await client.ask(self._session, backend.base_url, what, self._clock)
        finally:
            self._balancer.release(backend)

    def _write(self, request: Planned, answer: client.Answer, course: _Course) -> None:
        self.done += 1
        self.failed += answer.error is not None
        outcome = Outcome(
            policy=request.policy,
            id=request.id,
            arrival_s=request.t,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            first_s=answer.first_s,
            finish_s=None if answer.error else answer.finish_s,
            pod=course.pod,
            retries=max(course.attempts - 1, 0),
            error=answer.error,
        )
        self._out.write(json.dumps(asdict(outcome), separators=(",", ":")) + "\n")
