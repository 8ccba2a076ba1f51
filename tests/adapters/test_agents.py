"""The 1 s call to an agent, and what may count as a watt."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from capstan.adapters import agents, errors
from capstan.app import power


def calls(answer: Callable[[httpx.Request], httpx.Response], folder: Path, key: str = "secret") -> agents.AgentCalls:
    (folder / "key").write_text(key + "\n")
    return agents.AgentCalls(folder / "key", transport=httpx.MockTransport(answer))


async def test_the_call_carries_key_and_body(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"node": "gpu-0"})

    assert await calls(answer, tmp_path).renew("127.0.0.1:9808", {"epoch": 3}) == {"node": "gpu-0"}
    assert seen[0].url == "http://127.0.0.1:9808/v1/lease"
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert json.loads(seen[0].content) == {"epoch": 3}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401), errors.Denied),
        (httpx.Response(409, text="older"), errors.Conflict),
        (httpx.Response(500), errors.Malformed),
        (httpx.Response(200, text="<html>"), errors.Malformed),
        (httpx.Response(200, json=[1]), errors.Malformed),
    ],
    ids=["wrong key", "we are outdated", "broken", "HTML", "a list"],
)
async def test_a_wrong_answer_is_no_answer(
    answer: httpx.Response, error: type[errors.AdapterError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        await calls(lambda _: answer, tmp_path).renew("a:1", {})


async def test_a_silent_agent_is_unavailable(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with pytest.raises(errors.Unavailable, match="a:1: ConnectTimeout"):
        await calls(refuse, tmp_path).renew("a:1", {})


async def test_an_agent_that_drips_is_cut_off_at_the_deadline(tmp_path: Path) -> None:
    """The timeouts of httpx start anew with every byte; one hostile node must not make every other lease lapse."""

    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.1)
                yield b" "

    begun_s = time.monotonic()
    with pytest.raises(errors.Unavailable, match=r"within 0.8 s"):
        await calls(lambda _: httpx.Response(200, stream=Drip()), tmp_path).renew("a:1", {})
    assert time.monotonic() - begun_s < 1.5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 60_000, "not JSON"), (b" " * 100_000, "larger than 65536 bytes"), (b"\xff", "not JSON")],
    ids=["brackets without end", "too long", "no UTF-8"],
)
async def test_a_hostile_answer_is_malformed_and_no_crash(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(errors.Malformed, match=message):
        await calls(lambda _: httpx.Response(200, content=content), tmp_path).renew("a:1", {})


async def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """60 KiB on the wire, 60 MiB of zeros: the cap on size would come too late."""
    bomb = httpx.Response(200, content=gzip.compress(bytes(60 << 20)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(errors.Malformed, match="compressed"):
        await calls(lambda _: bomb, tmp_path).renew("a:1", {})


def test_an_empty_key_is_told_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(errors.Denied, match="is empty"):
        calls(lambda _: httpx.Response(200), tmp_path, key="").key()


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
    assert power._agent(raw) == agent
