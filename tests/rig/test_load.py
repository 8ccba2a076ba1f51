"""The load driver: least outstanding first, retried elsewhere until the first token, timed at the client, open loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from rig.load import balance, driver
from rig.load.balance import Backend, Balancer
from support import builders, simulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def backend(uid: str, base_url: str = "http://127.0.0.1:9") -> Backend:
    return Backend(uid, f"chat-{uid}", builders.CHAT, base_url, "chat")


def balancer_of(*backends: Backend) -> Balancer:
    balancer = Balancer()
    balancer.update({b.uid: b for b in backends})
    return balancer


def request(number: int = 0, t: float = 0.0, output_tokens: int = 5) -> driver.Planned:
    return driver.Planned(builders.CHAT, number, t, prompt_tokens=20, output_tokens=output_tokens)


async def outcomes(balancer: Balancer, *requests: driver.Planned, drain_s: float = 5.0) -> list[driver.Outcome]:
    """Play requests from now on and return what was written, by id."""
    zero_s = time.monotonic()
    out = io.StringIO()
    async with aiohttp.ClientSession() as session:
        await driver.Driver(session, balancer, lambda: time.monotonic() - zero_s, out).play(requests, drain_s=drain_s)
    lines = [driver.Outcome(**json.loads(line)) for line in out.getvalue().splitlines()]
    return sorted(lines, key=lambda outcome: outcome.id)


@contextlib.asynccontextmanager
async def engine_that(handler: Handler) -> AsyncIterator[str]:
    """A server that does with completions what the test wants; yields its base URL."""
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    ip = simulator.address()
    await web.TCPSite(runner, ip, 8000).start()
    try:
        yield f"http://{ip}:8000"
    finally:
        await runner.cleanup()


async def refuses(_: web.Request) -> web.Response:
    return web.Response(status=503, headers={"Connection": "close"})


async def rejects(_: web.Request) -> web.Response:
    return web.Response(status=400, text="max_tokens: too many")


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """One token, then the connection goes."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'data: {"choices":[{"text":" tok"}]}\n\n')
    assert request.transport is not None
    request.transport.close()
    return response


async def ends_early(request: web.Request) -> web.StreamResponse:
    """One token, then a clean end without [DONE]."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'data: {"choices":[{"text":" tok"}]}\n\n')
    await response.write_eof()
    return response


# --- who gets a request --------------------------------------------------------------------------


def test_the_pod_with_the_least_outstanding_gets_the_next_request() -> None:
    balancer = balancer_of(backend("a"), backend("b"))
    first, second = balancer.take(builders.CHAT), balancer.take(builders.CHAT)
    assert first is not None
    assert second is not None
    assert {first.uid, second.uid} == {"a", "b"}
    balancer.release(second)
    third = balancer.take(builders.CHAT)
    assert third == second, "the other one is still busy"


def test_idle_pods_take_turns() -> None:
    balancer = balancer_of(*(backend(uid) for uid in "abc"))
    taken = []
    for _ in range(9):
        chosen = balancer.take(builders.CHAT)
        assert chosen is not None
        taken.append(chosen.uid)
        balancer.release(chosen)
    assert {uid: taken.count(uid) for uid in "abc"} == {"a": 3, "b": 3, "c": 3}


def test_a_pod_that_comes_later_does_not_catch_up() -> None:
    balancer = balancer_of(backend("a"))
    for _ in range(10):
        chosen = balancer.take(builders.CHAT)
        assert chosen is not None
        balancer.release(chosen)
    balancer.update({uid: backend(uid) for uid in "ab"})
    taken = []
    for _ in range(4):
        chosen = balancer.take(builders.CHAT)
        assert chosen is not None
        taken.append(chosen.uid)
        balancer.release(chosen)
    assert taken.count("b") == 2


def test_pods_of_another_policy_and_pods_that_refused_are_passed_over() -> None:
    other = dataclasses.replace(backend("c"), policy="llm/batch")
    balancer = balancer_of(backend("a"), backend("b"), other)
    chosen = balancer.take(builders.CHAT, refused={"a"})
    assert chosen is not None
    assert chosen.uid == "b"
    assert balancer.take(builders.CHAT, refused={"a", "b"}) is None


@pytest.mark.parametrize(
    ("changes", "gets_requests"),
    [
        pytest.param({}, True, id="Ready and staying"),
        pytest.param({"ready": False}, False, id="not Ready yet"),
        pytest.param({"deleting": True}, False, id="being deleted"),
        pytest.param({"draining": True}, False, id="labelled draining"),
        pytest.param({"ip": None}, False, id="without an address"),
    ],
)
def test_only_ready_pods_that_stay_get_requests(changes: dict[str, object], gets_requests: bool) -> None:
    pod = simulator.pod_view(**{"ip": "127.89.0.7", **changes})
    found = balance.backends([pod], 8000)
    assert bool(found) is gets_requests
    if gets_requests:
        assert found[pod.uid] == Backend(pod.uid, pod.name, pod.policy, "http://127.89.0.7:8000", "chat")


# --- what becomes of a request -------------------------------------------------------------------


async def test_a_request_is_timed_from_its_planned_arrival() -> None:
    """Prefill 2 ms + 20 x 0.09 ms, then 49 steps of 2 ms; the arrival is the plan's, not the moment of sending."""
    async with simulator.serving() as (_, url):
        [outcome] = await outcomes(balancer_of(backend("a", url)), request(t=0.1, output_tokens=50))
    assert outcome.error is None
    assert outcome.arrival_s == 0.1
    assert outcome.pod == "chat-a"
    assert outcome.retries == 0
    assert outcome.first_s is not None
    assert outcome.finish_s is not None
    assert 0.1 + 0.0038 <= outcome.first_s < 0.25
    assert outcome.finish_s - outcome.first_s == pytest.approx(49 * 0.002, abs=0.06)


async def test_a_draining_engine_costs_a_retry_and_no_request() -> None:
    async with simulator.serving() as (server, url), engine_that(refuses) as drained:
        answered = await outcomes(
            balancer_of(backend("a", drained), backend("b", url)), *(request(n) for n in range(4))
        )
        assert server.replica.engine.idle
    assert [outcome.error for outcome in answered] == [None] * 4
    assert {outcome.pod for outcome in answered} == {"chat-b"}
    assert sum(outcome.retries for outcome in answered) >= 1


async def test_an_engine_that_is_gone_costs_a_retry_and_no_request() -> None:
    async with simulator.serving() as (_, url):
        nobody = f"http://{simulator.address()}:8000"
        answered = await outcomes(balancer_of(backend("a", nobody), backend("b", url)), request(0), request(1))
    assert [outcome.error for outcome in answered] == [None, None]


async def test_a_request_waits_for_a_pod_to_come_ready() -> None:
    balancer = Balancer()
    async with simulator.serving() as (_, url):
        playing = asyncio.create_task(outcomes(balancer, request()))
        await asyncio.sleep(0.15)
        balancer.update({"a": backend("a", url)})
        [outcome] = await playing
    assert outcome.error is None
    assert outcome.first_s is not None
    assert outcome.first_s >= 0.15, "the wait is part of its time to first token"


async def test_without_any_pod_a_request_fails_after_its_time_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RETRY_FOR_S", 0.2)
    [outcome] = await outcomes(Balancer(), request())
    assert (outcome.error, outcome.pod, outcome.first_s, outcome.finish_s) == ("no Ready pod", None, None, None)


@pytest.mark.parametrize("handler", [breaks_off, ends_early])
async def test_an_answer_that_breaks_off_after_its_first_token_is_lost_not_repeated(handler: Handler) -> None:
    async with engine_that(handler) as broken:
        [outcome] = await outcomes(balancer_of(backend("a", broken)), request())
    assert outcome.error is not None
    assert outcome.retries == 0
    assert outcome.first_s is not None
    assert outcome.finish_s is None, "unfinished counts as bad"


async def test_a_request_that_is_wrong_is_not_tried_elsewhere() -> None:
    async with engine_that(rejects) as strict, simulator.serving() as (server, url):
        balancer = balancer_of(backend("a", strict), backend("b", url))
        [outcome] = await outcomes(balancer, request())
        assert server.replica.engine.prompt_tokens_total == 0
    assert outcome.error == "400 max_tokens: too many"
    assert outcome.retries == 0


async def test_what_is_not_done_at_the_deadline_is_written_as_such() -> None:
    async with simulator.serving() as (_, url):
        begun_s = time.monotonic()
        [outcome] = await outcomes(balancer_of(backend("a", url)), request(output_tokens=100_000), drain_s=0.1)
        assert time.monotonic() - begun_s < 1
    assert outcome.error == "deadline"
    assert outcome.finish_s is None


async def test_the_loop_is_open_a_slow_engine_does_not_hold_back_later_requests() -> None:
    arrived: list[float] = []

    async def slow(_: web.Request) -> web.Response:
        arrived.append(time.monotonic())
        await asyncio.sleep(0.3)
        return web.Response(status=400, text="late")

    async with engine_that(slow) as url:
        await outcomes(balancer_of(backend("a", url)), *(request(n, t=0.05 * n) for n in range(4)))
    assert arrived[3] - arrived[0] == pytest.approx(0.15, abs=0.08)


async def test_outstanding_requests_spread_over_the_pods() -> None:
    async with simulator.serving() as (first, one), simulator.serving() as (second, two):
        balancer = balancer_of(backend("a", one), backend("b", two))
        await outcomes(balancer, *(request(n, output_tokens=30) for n in range(10)))
        made = [server.replica.engine.generation_tokens_total for server in (first, second)]
    assert made == [150, 150]


# --- the file of requests ------------------------------------------------------------------------


def test_requests_are_read_in_order_of_arrival() -> None:
    lines = [json.dumps(dataclasses.asdict(request(n, t))) for n, t in ((1, 2.0), (2, 1.0))]
    assert [planned.id for planned in driver.read([*lines, ""])] == [2, 1]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{", id="no JSON"),
        pytest.param('{"policy": "llm/chat", "id": 1, "t": 0.0}', id="a field is missing"),
        pytest.param('{"policy":"a","id":1,"t":0,"prompt_tokens":1,"output_tokens":1,"x":1}', id="a field too many"),
    ],
)
def test_a_line_that_is_no_request_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="requests, line 1"):
        driver.read([line])
