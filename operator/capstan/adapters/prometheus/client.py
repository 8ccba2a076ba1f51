"""Instant and range queries against Prometheus' HTTP API, with a deadline, a size cap and strict parsing.

Who calls it: `adapters.prometheus.vllm`. NaN and infinite values are dropped: a value that says nothing is no value,
and never 0. Redirects are refused (a login page is not an answer), the token file is read again for every call.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx

from capstan.adapters import answers, errors

DEADLINE_S = 4.0  # under the instance period of 5 s: a slow answer must not hold the next cycle
MAX_BYTES = 8 * 1024 * 1024  # 1,000 pods with 20 buckets above zero in two windows, ~150 bytes a series, are 6 MB


@dataclass(frozen=True, slots=True)
class Point:
    """One series of an instant answer, at a finite value."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range answer: `((t_s, value), ...)`, finite values only."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An instant answer; `warnings` are Prometheus' own (a partial response says so there)."""

    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where Prometheus is, and which of its series are ours.

    Attributes:
        url: `http://HOST:PORT` or `https://…`, with a path where one is in front.
        token_file: Bearer token.
        ca_file: CA of the certificate; None: the system's trust store.
        headers: Sent with every call (a tenant of Mimir, say).
        matchers: Label values that every selector asks for (`cluster`, where many clusters share a Prometheus).
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    matchers: Mapping[str, str] = field(default_factory=dict)


class Prometheus:
    """A client for one Prometheus. `transport` is a test's own."""

    def __init__(self, source: Source, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not source.url.startswith(("http://", "https://")):
            raise errors.Malformed(f"prometheus url {source.url!r}: give http://HOST:PORT or https://…")
        self.source = source
        self._http = httpx.AsyncClient(
            base_url=source.url.rstrip("/"),
            headers={"Accept-Encoding": "identity", **source.headers},  # the size cap counts what arrives
            timeout=httpx.Timeout(DEADLINE_S),
            verify=_verify(source.ca_file),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def instant(self, query: str) -> Answer:
        """Return the value of every series now, by Prometheus' clock.

        Raises:
            Unavailable: Down, slow or overloaded.
            Malformed: Not Prometheus' answer: HTML, truncated, too large.
            Rejected: It does not take the query.
            Denied: It does not take the token.
        """
        document = await self._ask("/api/v1/query", {"query": query})
        rows = _rows(document, "vector")
        points = (Point(_labels(row), value) for row in rows if (value := _value(row.get("value"))) is not None)
        return Answer(tuple(points), _warnings(document))

    async def range(
        self, query: str, *, start_s: float, end_s: float, step_s: float, deadline_s: float | None = None
    ) -> tuple[Series, ...]:
        """Return every series between two moments (epoch seconds). Raises as `instant`.

        `deadline_s` is the caller's own where it does not run beside decisions; None: that of every other call.
        """
        params = {"query": query, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        document = await self._ask("/api/v1/query_range", params, deadline_s)
        return tuple(Series(_labels(row), _points(row.get("values"))) for row in _rows(document, "matrix"))

    async def _ask(self, path: str, params: Mapping[str, str], given_s: float | None = None) -> Mapping[str, object]:
        deadline_s = DEADLINE_S if given_s is None else given_s
        form, limit = dict(params), httpx.Timeout(deadline_s)
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._http.stream("POST", path, data=form, headers=self._auth(), timeout=limit) as answer,
            ):
                answers.uncoded(answer, "Prometheus")
                content = await answers.capped(answer, "Prometheus", limit_bytes=MAX_BYTES)
        except (TimeoutError, httpx.TimeoutException) as slow:
            raise errors.Unavailable(f"Prometheus gave no answer within {deadline_s:g} s") from slow
        except (httpx.HTTPError, OSError) as problem:
            said = str(problem) or type(problem).__name__
            raise errors.Unavailable(f"Prometheus cannot be reached at {self.source.url}: {said}") from problem
        return _document(answer, content)

    def _auth(self) -> dict[str, str]:
        if self.source.token_file is None:
            return {}
        try:
            token = self.source.token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as problem:
            raise errors.Denied(f"the Prometheus token file cannot be read: {problem}") from problem
        return {"Authorization": f"Bearer {token}"}


def matcher(label: str, value: str) -> str:
    """Return `label="value"` with the value escaped, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{label}="{escaped}"'


def _verify(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (ssl.SSLError, OSError) as problem:
        raise errors.Malformed(f"the Prometheus CA file {ca_file} is not usable PEM: {problem}") from problem


def _document(answer: httpx.Response, content: bytes) -> Mapping[str, object]:
    """Return the parsed answer, or the right error for what came instead."""
    status = answer.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise errors.Denied(f"Prometheus refused us (HTTP {status}): check the token file")
    if 300 <= status < 400:
        where = answer.headers.get("location", "nowhere")
        raise errors.Malformed(f"Prometheus redirects (HTTP {status}) to {where!r}: give the address that answers")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise errors.Unavailable(f"Prometheus answered HTTP {status}")
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as problem:
        kind = answer.headers.get("content-type", "no content type")
        raise errors.Malformed(
            f"Prometheus' answer (HTTP {status}) is not JSON ({kind}): is the URL a Prometheus?"
        ) from problem
    if not isinstance(parsed, dict) or parsed.get("status") not in ("success", "error"):
        raise errors.Malformed(f"Prometheus' answer (HTTP {status}) has no status: is the URL a Prometheus?")
    if parsed["status"] == "error":
        raise errors.Rejected(f"Prometheus did not take the query (HTTP {status}): {parsed.get('error')}")
    return parsed


def _rows(document: Mapping[str, object], kind: str) -> list[Mapping[str, object]]:
    data = document.get("data")
    if not isinstance(data, dict) or data.get("resultType") != kind or not isinstance(data.get("result"), list):
        raise errors.Malformed(f"Prometheus' answer is no {kind}")
    rows: list[Mapping[str, object]] = data["result"]
    if not all(isinstance(row, dict) for row in rows):
        raise errors.Malformed(f"Prometheus' answer has a row that is no series of a {kind}")
    return rows


def _labels(row: Mapping[str, object]) -> Mapping[str, str]:
    labels = row.get("metric")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise errors.Malformed("Prometheus' answer has a series without labels")
    return labels


def _value(pair: object) -> float | None:
    """Return a finite value, or None; anything that is no pair of time and number is malformed."""
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
        raise errors.Malformed("Prometheus' answer has a sample that is no [time, value]")
    try:
        value = float(pair[1])
    except ValueError as problem:
        raise errors.Malformed(f"Prometheus' answer has the value {pair[1]!r}, which is no number") from problem
    return value if math.isfinite(value) else None


def _points(pairs: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(pairs, list):
        raise errors.Malformed("Prometheus' answer has a series without values")
    known = ((pair, _value(pair)) for pair in pairs)
    return tuple((_time_s(pair[0]), value) for pair, value in known if value is not None)


def _time_s(value: object) -> float:
    if not isinstance(value, int | float):
        raise errors.Malformed(f"Prometheus' answer has the time {value!r}, which is no number")
    return float(value)


def _warnings(document: Mapping[str, object]) -> tuple[str, ...]:
    found = document.get("warnings")
    return tuple(str(warning) for warning in found) if isinstance(found, list) else ()
