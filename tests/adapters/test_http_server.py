"""The small HTTP server: routes, probes, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
import pytest_asyncio

from capstan.adapters import catalogue, http, metrics


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    """A server with metrics, a failing readiness and an echo."""
    made = metrics.Metrics("power")
    made.set("capstan_leader", 1, "power")

    async def echo(request: http.Request) -> http.Response:
        return http.Response.json(200, {"token": request.bearer, "body": request.body.decode()})

    async def broken(_: http.Request) -> http.Response:
        raise RuntimeError("a bug")

    more = {("POST", "/echo"): echo, ("GET", "/broken"): broken}
    table = metrics.routes(made, healthy=lambda: True, ready=lambda: False, more=more)
    server = await http.serve("127.0.0.1", 0, table)
    host, port = http.bound(server)
    yield f"http://{host}:{port}"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/metrics", 200),
        ("/metrics?name=x", 200),
        ("/nothing", 404),
        ("/echo", 405),
    ],
)
async def test_routes_answer(address: str, path: str, status: int) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(address + path)).status_code == status


async def test_metrics_are_what_was_set(address: str) -> None:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{address}/metrics")).text
    assert 'capstan_leader{component="power"} 1.0' in text
    assert "capstan_desired_replicas" not in text, "the operator's metrics are not power's"


async def test_a_handler_sees_the_token_and_the_body(address: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{address}/echo", content="watts", headers={"Authorization": "Bearer key"})
    assert answer.json() == {"token": "key", "body": "watts"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b"413"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
    ids=["no HTTP", "endless headers", "a body too large", "a negative length"],
)
async def test_a_hostile_client_is_refused(address: str, sent: bytes, status: bytes) -> None:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = await reader.read()
    assert status in answer.split(b"\r\n")[0]
    writer.close()


async def test_a_slow_drip_is_cut_off(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_S", 0.1)
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz")
    assert b"408" in (await reader.read()).split(b"\r\n")[0]
    writer.close()


async def test_a_bug_in_a_handler_is_answered_and_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{address}/broken")).status_code == 500
        assert (await client.get(f"{address}/healthz")).status_code == 200
    assert "a bug" in caplog.text


async def test_a_reader_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB do not fit into the sockets' buffers, so the answer waits for its reader."""
    monkeypatch.setattr(http, "SEND_S", 0.1)

    async def large(_: http.Request) -> http.Response:
        return http.Response(200, b"x" * (64 * 1024 * 1024))

    server = await http.serve("127.0.0.1", 0, {("GET", "/"): large})
    reader, writer = await asyncio.open_connection(*http.bound(server), limit=1024)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.3)
    assert len(await reader.read()) < 64 * 1024 * 1024, "the rest was given up"
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_absent_is_absent_and_never_zero() -> None:
    made = metrics.Metrics("operator")
    made.set("capstan_clock_cap_megahertz", 1410, "llm", "chat", "all")
    made.set("capstan_clock_cap_megahertz", None, "llm", "chat", "all")
    made.set("capstan_clock_cap_megahertz", None, "llm", "never-set", "all")
    assert b"capstan_clock_cap_megahertz{" not in made.exposition()


def test_every_metric_of_the_catalogue_can_be_scraped_under_its_name() -> None:
    scraped: set[str] = set()
    for process in ("operator", "power", "agent"):
        made = metrics.Metrics(process)
        for metric in catalogue.CATALOGUE:
            if metric.process not in (process, "both") or (metric.process == "both" and process == "agent"):
                continue
            labels = ["x"] * len(metric.labels)
            {"gauge": made.set, "counter": made.add, "histogram": made.observe}[metric.kind](metric.name, 1.0, *labels)
        lines = made.exposition().decode().splitlines()
        scraped |= {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert set(catalogue.names()) <= scraped
