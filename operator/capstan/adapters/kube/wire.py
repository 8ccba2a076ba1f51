"""HTTP to one API server: a deadline and a size cap on every answer, and its refusals as our errors.

Who calls it: `client`, which knows what the calls mean. Nothing is retried here: whoever asks comes again with a
back-off of its own, so that a server that is down hears from us about once a second (`reflector`, `lease`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from urllib.parse import quote

import httpx

import capstan
from capstan.adapters import answers, errors
from capstan.adapters.kube import config

Manifest = dict[str, object]

DEADLINE_S = 10.0
SILENCE_S = 70.0  # a watch ends by itself after client.WATCH_S; longer silence is a dead connection
MAX_BYTES = 64 * 1024 * 1024  # a page of 500 pods is under 10 MiB
MAX_LINE_BYTES = 8 * 1024 * 1024  # etcd takes 1.5 MiB an object; JSON with its managed fields stays under this
UNKNOWN_FIELD = "failed to create typed patch object"  # server-side apply answers an unknown field with a 500 (v1.35)

_BY_STATUS: Mapping[int, type[errors.AdapterError]] = {
    HTTPStatus.UNAUTHORIZED: errors.Denied,
    HTTPStatus.FORBIDDEN: errors.Denied,
    HTTPStatus.NOT_FOUND: errors.NotFound,
    HTTPStatus.CONFLICT: errors.Conflict,
    HTTPStatus.GONE: errors.Malformed,  # our resourceVersion or page token is too old: list again
}


class Wire:
    """One connection pool to one API server.

    Args:
        where: Cluster and identity.
        component: For the User-Agent, so that the audit log tells our processes apart.
        transport: A test's own.
    """

    def __init__(
        self, where: config.Config, *, component: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._where = where
        agent = f"capstan/{capstan.__version__} ({component})"
        self._http = httpx.AsyncClient(
            base_url=where.url,
            verify=where.context() if where.url.startswith("https") else False,
            headers={"User-Agent": agent, "Accept": "application/json"},
            timeout=httpx.Timeout(DEADLINE_S),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        document: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        """Send one request and return the object that comes back.

        Raises:
            Unavailable, Malformed, Rejected, Conflict, NotFound, Denied.
        """
        what = f"{method} {path}"
        body = None if document is None else json.dumps(document).encode()
        headers = self._auth() if body is None else {**self._auth(), "Content-Type": content_type}
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._http.stream(method, quote(path), params=dict(query), content=body, headers=headers) as answer,
            ):
                content = await answers.capped(answer, what, limit_bytes=MAX_BYTES)
        except (TimeoutError, httpx.TimeoutException) as slow:
            raise errors.Unavailable(f"{what}: no answer within {DEADLINE_S:.0f} s") from slow
        except (httpx.HTTPError, OSError) as problem:
            raise errors.Unavailable(f"{what}: {_text(problem)}") from problem
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _error(answer, content)
        return answers.parsed(content, what)

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes]:
        """Yield the lines of an answer that stays open, until the server ends it.

        Raises:
            Unavailable: The connection broke or was silent for `SILENCE_S`.
            Malformed: A line without end; else as `call`.
        """
        what = f"watch of {path}"
        timeout = httpx.Timeout(DEADLINE_S, read=SILENCE_S)
        try:
            async with self._http.stream(
                "GET", quote(path), params=dict(query), headers=self._auth(), timeout=timeout
            ) as answer:
                if answer.status_code != HTTPStatus.OK:
                    raise _error(answer, await answers.capped(answer, what, limit_bytes=MAX_BYTES))
                async for line in _split(answer, what):
                    yield line
        except httpx.ReadTimeout as silent:
            raise errors.Unavailable(f"{what}: silent for {SILENCE_S:.0f} s") from silent
        except (httpx.HTTPError, OSError) as problem:
            raise errors.Unavailable(f"{what}: {_text(problem)}") from problem

    def _auth(self) -> dict[str, str]:
        token = self._where.bearer()
        return {"Authorization": f"Bearer {token}"} if token else {}


async def _split(answer: httpx.Response, what: str) -> AsyncGenerator[bytes]:
    r"""Yield lines that end in `\n`, and nothing else.

    `httpx`'s own `aiter_lines` also splits at U+0085 and its like, which JSON lets stand inside a string: one
    annotation with such a character would break every watch that sees it.
    """
    pending = b""
    async for part in answer.aiter_bytes():
        *whole, pending = (pending + part).split(b"\n")
        if len(pending) > MAX_LINE_BYTES:
            raise errors.Malformed(f"{what}: a line is longer than {MAX_LINE_BYTES} bytes")
        for line in whole:
            yield line
    if pending:
        raise errors.Malformed(f"{what}: the last line was cut off")


def _error(answer: httpx.Response, content: bytes) -> errors.AdapterError:
    """Translate a status, with the server's own message."""
    status = answer.status_code
    message, fields = _message(content)
    message = message or f"HTTP {status}"
    if message.startswith(UNKNOWN_FIELD):
        return errors.Rejected(message)
    if "metadata.uid" in fields:
        return errors.Conflict(f"the object was replaced by another of the same name: {message}")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = answer.headers.get("retry-after", "")
        return errors.Unavailable(message, retry_after_s=float(after) if after.isdecimal() else None)
    return _BY_STATUS.get(status, errors.Rejected)(message)


def _message(content: bytes) -> tuple[str, frozenset[str]]:
    """Return the words of a Status, and the fields that it names as causes; empty where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return "", frozenset()
    if not isinstance(found, dict):
        return "", frozenset()
    details = found.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    named = (cause.get("field") for cause in causes or () if isinstance(cause, dict))
    return str(found.get("message", "")), frozenset(str(field) for field in named)


def _text(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
