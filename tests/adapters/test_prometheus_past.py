"""What is asked for a policy's past, what is kept of the answers, and what a Prometheus that fails leaves standing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import promql_parser
import pytest

from capstan.adapters.prometheus import past
from capstan.model.past import BLOCK_STEPS, BLOCKS, Ask, Past
from support.adapters import prometheus_of

STEP_S = 300.0
BLOCK_S = BLOCK_STEPS * STEP_S
NOW_S = 20_000 * BLOCK_S + 10 * STEP_S + past.SETTLED_S  # ten steps into a block, all of them settled
CHAT = Ask("llm/chat", "llm", "chat-tp[0-9]+-[a-z0-9]+-[a-z0-9]{5}")


class Server:
    """A Prometheus whose rate rises by one request a step; it remembers what it was asked."""

    def __init__(self, since_s: float = 0.0) -> None:
        self.since_s = since_s
        self.asked: list[tuple[float, float]] = []
        self.broken: Callable[[int], httpx.Response | None] = lambda _: None
        self.value: Callable[[float], float] = lambda t_s: t_s / STEP_S % 1000

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = {key: values[0] for key, values in parse_qs(request.content.decode()).items()}
        start_s, end_s = float(form["start"]), float(form["end"])
        self.asked.append((start_s, end_s))
        if (problem := self.broken(len(self.asked))) is not None:
            return problem
        times = [start_s + i * STEP_S for i in range(round((end_s - start_s) / STEP_S) + 1)]
        values = [[t, str(self.value(t))] for t in times if t > self.since_s]
        result = [{"metric": {}, "values": values}] if values else []
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "matrix", "result": result}})


class Reader:
    """A reader on such a server, and a clock that moves when told."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.now_s = NOW_S
        self.pasts = past.Pasts(prometheus_of(server), step_s=STEP_S, wall_s=lambda: self.now_s)
        self.pasts.follow([CHAT])

    async def read(self) -> Past:
        await self.pasts.refresh()
        found = self.pasts.past(CHAT)
        assert found is not None
        return found


async def test_four_weeks_are_read_to_the_last_step_that_has_settled() -> None:
    reader = Reader(Server())
    found = await reader.read()
    assert len(reader.server.asked) == BLOCKS == len(found.blocks)
    assert [len(block.rates_rps) for block in found.blocks] == [BLOCK_STEPS] * (BLOCKS - 1) + [10]
    samples = list(found.samples())
    assert samples[-1][0] == NOW_S - past.SETTLED_S
    assert samples[0][0] == NOW_S - past.SETTLED_S - 10 * STEP_S - (BLOCKS - 1) * BLOCK_S + STEP_S


async def test_a_step_is_the_requests_that_arrived_in_it_by_its_length() -> None:
    """The step that ends at block 20,000's third has (20000 x 288 + 3) mod 1000 = 3 requests: 3 / 300 s."""
    found = await Reader(Server()).read()
    assert found.blocks[-1].rates_rps[2] == pytest.approx(3 / STEP_S)


async def test_afterwards_only_the_block_that_goes_on_is_asked_for_again() -> None:
    reader = Reader(Server())
    before = await reader.read()
    reader.now_s += STEP_S
    after = await reader.read()
    assert len(reader.server.asked) == BLOCKS + 1
    assert after.blocks[:-1] == before.blocks[:-1]
    assert len(after.blocks[-1].rates_rps) == 11


async def test_while_nothing_new_has_settled_the_past_is_the_same_object() -> None:
    """The record of decisions looks at an object once: it need not compare four weeks every five seconds."""
    reader = Reader(Server())
    assert await reader.read() is await reader.read()


async def test_when_a_block_ends_the_next_begins_and_the_oldest_is_let_go() -> None:
    reader = Reader(Server())
    before = await reader.read()
    reader.now_s += BLOCK_S
    after = await reader.read()
    assert len(after.blocks) == BLOCKS
    assert after.blocks[0] == before.blocks[1]
    assert len(after.blocks[-2].rates_rps) == BLOCK_STEPS
    assert len(reader.server.asked) == BLOCKS + 2, "the block that ended, to its end, and the new one"


async def test_a_restarted_operator_reads_the_same() -> None:
    server = Server()
    assert await Reader(server).read() == await Reader(server).read()


async def test_ten_minutes_of_history_are_two_steps_and_no_weeks_of_zeros() -> None:
    found = await Reader(Server(since_s=NOW_S - past.SETTLED_S - 2 * STEP_S)).read()
    assert len(list(found.samples())) == 2
    assert len(found.blocks) == 1


async def test_a_service_without_history_has_an_empty_one_and_no_problem() -> None:
    reader = Reader(Server(since_s=NOW_S + 1e9))
    assert (await reader.read()).blocks == ()
    assert reader.pasts.problem == ""


@pytest.mark.parametrize("value", [-40.0, float("nan"), float("inf")], ids=["more gave up than came", "NaN", "Inf"])
async def test_what_is_no_count_is_no_rate(value: float) -> None:
    server = Server(since_s=NOW_S - past.SETTLED_S - STEP_S)
    server.value = lambda _: value
    rates = [rate for _, rate in (await Reader(server).read()).samples()]
    assert rates == ([0.0] if value == -40.0 else [])


async def test_an_error_leaves_what_was_known_and_the_next_time_goes_on() -> None:
    """The fifth question of a first reading fails: nothing is told yet, and four blocks need not be asked again."""
    reader = Reader(Server())
    reader.server.broken = lambda nth: httpx.Response(503) if nth == 5 else None
    await reader.pasts.refresh()
    assert reader.pasts.past(CHAT) is None
    assert reader.pasts.problem == "llm/chat: Prometheus answered HTTP 503"
    await reader.read()
    assert reader.pasts.problem == ""
    assert len(reader.server.asked) == BLOCKS + 1


async def test_a_prometheus_that_goes_down_later_takes_no_history_away() -> None:
    reader = Reader(Server())
    before = await reader.read()
    reader.server.broken = lambda _: httpx.Response(500)
    reader.now_s += STEP_S
    assert await reader.read() is before
    assert "HTTP 500" in reader.pasts.problem


async def test_a_policy_that_is_gone_is_forgotten_and_a_new_one_is_read() -> None:
    reader, other = Reader(Server()), Ask("llm/batch", "llm", "batch-tp[0-9]+-[a-z0-9]+-[a-z0-9]{5}")
    await reader.read()
    reader.pasts.follow([other])
    assert reader.pasts.past(CHAT) is None
    await reader.pasts.refresh()
    found = reader.pasts.past(other)
    assert found is not None
    assert found.policy == "llm/batch"


async def test_a_new_policy_is_read_at_once_and_not_a_step_later() -> None:
    reader = Reader(Server())
    task = asyncio.create_task(reader.pasts.run())
    try:
        async with asyncio.timeout(2):
            while reader.pasts.past(CHAT) is None:  # noqa: ASYNC110 - a reader tells nobody that it is done
                await asyncio.sleep(0)
            other = Ask("llm/batch", "llm", "batch-.*")
            reader.pasts.follow([CHAT, other])
            while reader.pasts.past(other) is None:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("pods", [CHAT.pods, "chat[.]v2-[a-z0-9]+-[a-z0-9]{5}|other-.*"], ids=["ours", "targets"])
def test_the_question_parses_and_every_selector_is_of_the_policys_pods(pods: str) -> None:
    asked = past.query(Ask("llm/chat", "llm", pods), STEP_S, {"cluster": 'a"b'})
    found = list(selectors(promql_parser.parse(asked)))
    assert len(found) == 2
    for selector in found:
        labels = {m.name: m.value for m in selector.matchers.matchers}
        assert labels == {"cluster": 'a"b', "namespace": "llm", "pod": pods}


def selectors(node: object) -> list[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    children += list(getattr(node, "args", None) or [])
    return [found for child in children if child is not None for found in selectors(child)]
