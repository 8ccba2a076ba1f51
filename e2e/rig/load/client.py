"""One request to one engine: the completion is streamed, and its first and last chunk are timed here, at the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

RETRIABLE_STATUS = frozenset({429, 502, 503, 504})  # the engine is full, draining or gone; another may not be
CONNECT_TIMEOUT_S = 2.0  # a loopback connection takes well under 1 ms; what takes 2 s will not come


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask an engine for."""

    model: str
    prompt_tokens: int
    output_tokens: int

    def body(self) -> bytes:
        """Return the JSON body; the prompt's words do not matter to a simulator, its length does."""
        return json.dumps(
            {
                "model": self.model,
                "prompt": "trace",
                "rig_prompt_tokens": self.prompt_tokens,
                "max_tokens": self.output_tokens,
                "ignore_eos": True,
                "stream": True,
            }
        ).encode()


@dataclass(slots=True)
class Answer:
    """What came back, in the clock's seconds. `error` is None for an answer that is whole."""

    first_s: float | None = None
    finish_s: float | None = None
    error: str | None = None
    status: int | None = None

    @property
    def retriable(self) -> bool:
        """Another engine may be asked: this one failed before its first token, and not by our fault."""
        ours = self.status is not None and self.status != 200 and self.status not in RETRIABLE_STATUS
        return self.error is not None and self.first_s is None and not ours


async def ask(session: aiohttp.ClientSession, base_url: str, what: Ask, clock: Callable[[], float]) -> Answer:
    """Stream one completion. Failures of the engine or of the way there end up in `Answer.error`, not as exceptions."""
    answer = Answer()
    try:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        async with session.post(
            f"{base_url}/v1/completions", data=what.body(), headers=headers, timeout=timeout
        ) as response:
            answer.status = response.status
            if response.status != 200:
                answer.error = f"{response.status} {(await response.text())[:200]}"
            else:
                await _read(response, answer, clock)
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as failure:
        answer.error = f"{type(failure).__name__}: {failure}"
    return answer


async def _read(response: aiohttp.ClientResponse, answer: Answer, clock: Callable[[], float]) -> None:
    """Time the first and the last chunk; an answer without `[DONE]` was cut off."""
    whole = False
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            whole = True
        else:
            answer.finish_s = clock()
            answer.first_s = answer.first_s or answer.finish_s
    if not whole:
        answer.finish_s = None
        answer.error = "cut off before [DONE]"
