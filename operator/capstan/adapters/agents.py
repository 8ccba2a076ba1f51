"""The 1 s call to every agent: concurrent, with a deadline, the key re-read; silence is absence, never zero watts.

Who calls it: `app.power`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from capstan.adapters import errors

DEADLINE_S = 0.8  # under the 1 s tick: a slow agent must not delay the others
MAX_AGENTS_AT_ONCE = 256
MAX_ANSWER_BYTES = 64 * 1024  # 16 GPUs are 4 KiB
LARGEST = 1e15  # watts, megahertz, sequences: whole numbers up to here are exact as floats


class AgentCalls:
    """A connection pool to all agents.

    Args:
        key_file: The shared bearer key.
        called: Told the seconds of every call (a histogram).
        transport: A test's own.
    """

    def __init__(
        self,
        key_file: Path,
        *,
        called: Callable[[float], None] = lambda _: None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._key_file = key_file
        self._called = called
        limits = httpx.Limits(max_connections=MAX_AGENTS_AT_ONCE)
        self._http = httpx.AsyncClient(timeout=DEADLINE_S, limits=limits, trust_env=False, transport=transport)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def key(self) -> str:
        """Return the key of now.

        Raises:
            Denied: The file cannot be read or is empty.
        """
        try:
            key = self._key_file.read_text(encoding="utf-8").strip()
        except OSError as problem:
            raise errors.Denied(f"the key file cannot be read: {problem}") from problem
        if not key:
            raise errors.Denied(f"the key file {self._key_file} is empty: write the agents' key into it")
        return key

    async def renew(self, address: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """Post one lease call and return the agent's answer.

        Raises:
            Unavailable: No answer in time.
            Denied: Wrong key. Conflict: we are older than what the agent knows. Malformed: no agent's answer.
        """
        started_s = asyncio.get_running_loop().time()
        headers = {"Authorization": f"Bearer {self.key()}"}
        try:
            # httpx's own timeouts are per read: an agent that drips would hold up the tick, and with it every lease.
            async with asyncio.timeout(DEADLINE_S):
                status, content = await self._post(f"http://{address}/v1/lease", dict(body), headers)
        except TimeoutError as problem:
            raise errors.Unavailable(f"agent {address}: no answer within {DEADLINE_S} s") from problem
        except httpx.HTTPError as problem:
            raise errors.Unavailable(f"agent {address}: {str(problem) or type(problem).__name__}") from problem
        finally:
            self._called(asyncio.get_running_loop().time() - started_s)
        if status != httpx.codes.OK:
            raise _error(status, content, address)
        return _parsed(content, address)

    async def _post(self, url: str, body: dict[str, object], headers: dict[str, str]) -> tuple[int, bytes]:
        """Return status and content, of which no more is read than an agent's answer can be."""
        content = b""
        async with self._http.stream("POST", url, json=body, headers=headers) as answer:
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise errors.Malformed(f"{url}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
            return answer.status_code, content


def _parsed(content: bytes, address: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise errors.Malformed(f"agent {address}: the answer is not JSON") from problem
    if not isinstance(parsed, dict):
        raise errors.Malformed(f"agent {address}: the answer is not an object")
    return parsed


def number(document: Mapping[str, object], name: str) -> float:
    """Return a finite number at or above 0 of an answer.

    Raises:
        Malformed: It is missing, no number, negative, NaN or infinite: a watt that is not one must not count.
    """
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise errors.Malformed(f"{name} is {str(value)[:40]!r}, not a number from 0 to {LARGEST:.0e}")
    return float(value)


def _error(status: int, content: bytes, address: str) -> errors.AdapterError:
    said = content[:200].decode(errors="replace").strip()
    by_status: dict[int, type[errors.AdapterError]] = {401: errors.Denied, 403: errors.Denied, 409: errors.Conflict}
    return by_status.get(status, errors.Malformed)(f"agent {address}: HTTP {status} {said}")
