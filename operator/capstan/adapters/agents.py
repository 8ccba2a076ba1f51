"""The 1 s call to every agent: concurrent, with a deadline, the key re-read; silence is absence, never zero watts.

Who calls it: `app.power`; `app.agent` reads the same key and the same kind of numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from capstan.adapters import answers, errors

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
        self._http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"},  # the size cap counts what arrives
            timeout=DEADLINE_S,
            limits=limits,
            trust_env=False,
            transport=transport,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

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
        started_s = asyncio.get_running_loop().time()
        what, headers = f"agent {address}", {"Authorization": f"Bearer {self.key()}"}
        try:
            # httpx's own timeouts are per read: an agent that drips would hold up the tick, and with it every lease.
            async with (
                asyncio.timeout(DEADLINE_S),
                self._http.stream("POST", f"http://{address}/v1/lease", json=dict(body), headers=headers) as answer,
            ):
                answers.uncoded(answer, what)
                content = await answers.capped(answer, what, limit_bytes=MAX_ANSWER_BYTES)
        except TimeoutError as problem:
            raise errors.Unavailable(f"{what}: no answer within {DEADLINE_S} s") from problem
        except httpx.HTTPError as problem:
            raise errors.Unavailable(f"{what}: {str(problem) or type(problem).__name__}") from problem
        finally:
            self._called(asyncio.get_running_loop().time() - started_s)
        if answer.status_code != httpx.codes.OK:
            raise _error(answer.status_code, content, what)
        return answers.parsed(content, what)


def read_key(path: Path) -> str:
    """Return the key that `capstan power` and the agents share.

    Raises:
        Denied: The file cannot be read or is empty.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as problem:
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
