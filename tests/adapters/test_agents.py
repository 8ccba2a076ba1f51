"""The 1 s call to an agent, and what may count as a watt."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capstan.adapters import agents, errors
from capstan.app.power import caches

Client = agents.AgentCalls


class Agent:
    """An agent on a loopback port that writes these bytes for every request; keeps what it was asked."""

    def __init__(self, answer: bytes, *, drips: bool = False, closes: bool = True) -> None:
        self._answer, self._drips, self._closes = answer, drips, closes
        self.asked: list[bytes] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Agent:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(length))
                writer.write(self._answer)
                while self._drips:
                    await asyncio.sleep(0.1)
                    writer.write(b" ")
                    await writer.drain()
                if self._closes:
                    break
        writer.close()


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def calls(folder: Path, key: str = "secret") -> agents.AgentCalls:
    (folder / "key").write_text(key + "\n")
    return agents.AgentCalls(folder / "key")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[agents.AgentCalls]:
    made = calls(tmp_path)
    yield made
    await made.close()
    await asyncio.sleep(0)


async def test_the_call_carries_key_and_body(client: Client) -> None:
    async with Agent(http(200, b'{"node": "gpu-0"}')) as agent:
        assert await client.renew(agent.address, {"epoch": 3}) == {"node": "gpu-0"}
    head, _, body = agent.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/lease HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret\r\n" in head
    assert json.loads(body) == {"epoch": 3}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http(401, b""), errors.Denied),
        (http(409, b"older"), errors.Conflict),
        (http(500, b""), errors.Malformed),
        (http(200, b"<html>"), errors.Malformed),
        (http(200, b"[1]"), errors.Malformed),
        (b"", errors.Unavailable),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", errors.Malformed),
        (b"HTTP/1.1 2000 X\r\n\r\n", errors.Malformed),
        (b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n{}", errors.Unavailable),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", errors.Malformed),
        (b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\n{}", errors.Malformed),
        (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 5000 + b"\r\n", errors.Malformed),
    ],
    ids=["wrong key", "we are outdated", "broken", "HTML", "a list", "nothing", "SSH", "an odd status", "cut off",
         "no length", "a length below zero", "headers without end"],
)  # fmt: skip
async def test_a_wrong_answer_is_no_answer(answer: bytes, error: type[errors.AdapterError], client: Client) -> None:
    async with Agent(answer) as agent:
        with pytest.raises(error, match=agent.address):
            await client.renew(agent.address, {})


async def test_an_agent_that_is_gone_is_unavailable(client: Client) -> None:
    async with Agent(b"") as agent:
        pass
    with pytest.raises(errors.Unavailable, match=agent.address):
        await client.renew(agent.address, {})


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n"], ids=["head", "body"])
async def test_an_agent_that_drips_is_cut_off_at_the_deadline(begun: bytes, client: Client) -> None:
    """One hostile node must not make every other lease lapse."""
    begun_s = time.monotonic()
    async with Agent(begun, drips=True) as agent:
        with pytest.raises(errors.Unavailable, match=r"within 0.8 s"):
            await client.renew(agent.address, {})
    assert time.monotonic() - begun_s < 1.5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 60_000, "not JSON"), (b" " * 100_000, "larger than 65536 bytes"), (b"\xff", "not JSON")],
    ids=["brackets without end", "too long", "no UTF-8"],
)
async def test_a_hostile_answer_is_malformed_and_no_crash(content: bytes, message: str, client: Client) -> None:
    async with Agent(http(200, content)) as agent:
        with pytest.raises(errors.Malformed, match=message):
            await client.renew(agent.address, {})


async def test_a_bomb_is_not_unpacked(client: Client) -> None:
    """60 KiB on the wire, 60 MiB of zeros: the cap on size would come too late."""
    async with Agent(http(200, gzip.compress(bytes(60 << 10)), "Content-Encoding: gzip")) as agent:
        with pytest.raises(errors.Malformed, match="compressed"):
            await client.renew(agent.address, {})


@pytest.mark.parametrize(("closes", "connections"), [(False, 1), (True, 3)], ids=["kept", "closed under us"])
async def test_a_connection_is_kept_where_the_agent_keeps_it(closes: bool, connections: int, client: Client) -> None:
    """An agent that closes without saying so costs a new connection, never a lost renewal."""
    async with Agent(http(200, b"{}"), closes=closes) as agent:
        for _ in range(3):
            assert await client.renew(agent.address, {}) == {}
            await asyncio.sleep(0.01)
        assert (agent.connections, len(agent.asked)) == (connections, 3)
        client.keep(frozenset())
        assert await client.renew(agent.address, {}) == {}
    assert agent.connections == connections + 1


def test_an_empty_key_is_told_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(errors.Denied, match="is empty"):
        calls(tmp_path, key="").key()


@pytest.mark.parametrize(
    "value", [None, -1, "300", True, math.nan, math.inf, 10**400], ids=lambda value: str(value)[:8]
)
def test_a_watt_that_is_none_does_not_count(value: object) -> None:
    with pytest.raises(errors.Malformed, match="powerWatts"):
        agents.number({"powerWatts": value}, "powerWatts")


@pytest.mark.parametrize(
    ("raw", "agent"),
    [
        ({"spec": {"nodeName": "n"}, "status": {"podIP": "127.89.0.3"}}, ("n", "127.89.0.3:9808")),
        ({"spec": {"nodeName": "n"}, "status": {"podIP": "fd00::3"}}, ("n", "[fd00::3]:9808")),
        ({"spec": {"nodeName": "n"}, "status": {}}, None),
        ({"metadata": {"deletionTimestamp": "now"}, "spec": {"nodeName": "n"}, "status": {"podIP": "1.1.1.1"}}, None),
    ],
    ids=["IPv4", "IPv6", "no address yet", "leaving"],
)
def test_an_agent_is_a_pod_with_node_and_address(raw: dict[str, object], agent: tuple[str, str] | None) -> None:
    assert caches.agent(raw) == agent
