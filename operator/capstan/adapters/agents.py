"""The 1 s call to every agent: concurrent, with a deadline, the key re-read; silence is absence, never zero watts.

Who calls it: `app.power`; `app.agent` reads the same key and the same kind of numbers.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from capstan.adapters import answers, errors, posting

DEADLINE_S = 0.8  # under the 1 s tick: a slow agent must not delay the others
MAX_ANSWER_BYTES = 64 * 1024  # 16 GPUs are 6 KiB
LARGEST = 1e15  # watts, megahertz, sequences: whole numbers up to here are exact as floats
KEY_S = 1.0  # the key file is read once per second of calls, not once per agent


class AgentCalls:
    """Connections to all agents.

    Args:
        key_file: The shared bearer key.
        called: Told the seconds of every call (a histogram).
    """

    def __init__(self, key_file: Path, *, called: Callable[[float], None] = lambda _: None) -> None:
        self._key_file = key_file
        self._called = called
        self._posting = posting.Poster("/v1/lease", limit_bytes=MAX_ANSWER_BYTES)
        self._key = ("", -math.inf)

    async def close(self) -> None:
        """Close all connections."""
        self._posting.close()

    def keep(self, addresses: frozenset[str]) -> None:
        """Close the connections to agents that are gone."""
        self._posting.keep(addresses)

    def key(self) -> str:
        """Return the key of now.

        Raises:
            Denied: The file cannot be read or is empty.
        """
        return read_key(self._key_file)

    async def renew(self, address: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """Post one lease call and return the agent's answer.

        Raises:
            Unavailable: No answer in time.
            Denied: Wrong key. Conflict: we are older than what the agent knows. Malformed: no agent's answer.
        """
        now_s = asyncio.get_running_loop().time
        started_s, what = now_s(), f"agent {address}"
        content = json.dumps(body, separators=(",", ":")).encode()
        try:
            # One deadline for all of it: an agent that drips would hold up the tick, and with it every lease.
            async with asyncio.timeout(DEADLINE_S):
                answer = await self._posting.post(address, content, token=self._key_of_now(started_s))
        except TimeoutError as problem:
            raise errors.Unavailable(f"{what}: no answer within {DEADLINE_S} s") from problem
        except errors.Malformed as problem:
            raise errors.Malformed(f"{what}: {problem}") from problem
        finally:
            self._called(now_s() - started_s)
        if answer.status != HTTPStatus.OK:
            raise _error(answer.status, answer.content, what)
        return answers.parsed(answer.content, what)

    def _key_of_now(self, now_s: float) -> str:
        key, read_s = self._key
        if now_s - read_s >= KEY_S:
            key = self.key()
            self._key = (key, now_s)
        return key


def read_key(path: Path) -> str:
    """Return the key that `capstan power` and the agents share.

    Raises:
        Denied: The file cannot be read or is empty.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as problem:
        raise errors.Denied(f"the key file cannot be read: {problem}") from problem
    if not key:
        raise errors.Denied(f"the key file {path} is empty: write the agents' key into it")
    return key


def number(document: Mapping[str, object], name: str) -> float:
    """Return a finite number at or above 0 of an answer.

    Raises:
        Malformed: It is missing, no number, negative, NaN or infinite: a watt that is not one must not count.
    """
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise errors.Malformed(f"{name} is {str(value)[:40]!r}, not a number from 0 to {LARGEST:.0e}")
    return float(value)


def _error(status: int, content: bytes, what: str) -> errors.AdapterError:
    said = content[:200].decode(errors="replace").strip()
    by_status: dict[int, type[errors.AdapterError]] = {401: errors.Denied, 403: errors.Denied, 409: errors.Conflict}
    return by_status.get(status, errors.Malformed)(f"{what}: HTTP {status} {said}")
