"""The engine's HTTP face: OpenAI's completions with and without streaming, errors as vLLM gives them, drain."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from support import simulator

BODY = {"model": "chat", "prompt": "x" * 40, "max_tokens": 12, "ignore_eos": True}
DRAINED_TOKENS = 400  # a second or so of decoding: longer than a request takes on a busy machine


async def post(url: str, **changes: object) -> tuple[int, dict[str, object]]:
    """Ask for a completion; `url` may go on with another path."""
    where = url if "/v1/" in url else f"{url}/v1/completions"
    async with aiohttp.ClientSession() as session, session.post(where, json={**BODY, **changes}) as response:
        answer: dict[str, object] = await response.json()
        return response.status, answer


async def streamed(base_url: str, **changes: object) -> list[dict[str, object]]:
    """Every SSE frame of a streamed completion, without the closing [DONE]."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base_url}/v1/completions", json={**BODY, "stream": True, **changes}) as response,
    ):
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = await response.text()
    frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    return [json.loads(frame) for frame in frames]


def said(frame: dict[str, object]) -> str:
    choices = frame["choices"]
    assert isinstance(choices, list)
    return str(choices[0]["text"])


async def test_a_completion_has_the_tokens_that_were_asked_for() -> None:
    async with simulator.serving() as (_, url):
        status, answer = await post(url)
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}
    assert said(answer).split() == ["tok"] * 12


async def test_a_stream_says_the_same_in_chunks_and_ends_with_its_reason() -> None:
    async with simulator.serving() as (_, url):
        frames = await streamed(url)
    assert "".join(said(frame) for frame in frames).split() == ["tok"] * 12
    assert said(frames[0]).split() == ["tok"], "the first token alone, at once"
    reasons = [frame["choices"][0]["finish_reason"] for frame in frames]  # type: ignore[index]  # JSON
    assert reasons == [None] * (len(frames) - 1) + ["length"]


async def test_usage_comes_last_where_it_is_asked_for() -> None:
    async with simulator.serving() as (_, url):
        frames = await streamed(url, stream_options={"include_usage": True})
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        pytest.param({"prompt": [1, 2, 3]}, 3, id="token ids count themselves"),
        pytest.param({"prompt": "x" * 41}, 11, id="text: four characters a token, rounded up"),
        pytest.param({"prompt": "x", "rig_prompt_tokens": 5000}, 5000, id="a trace says its length"),
    ],
)
async def test_prompts_are_counted(prompt: dict[str, object], tokens: int) -> None:
    async with simulator.serving() as (_, url):
        _, answer = await post(url, **prompt, max_tokens=1)
    assert answer["usage"] == {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}


async def test_chat_answers_in_chat_s_shape() -> None:
    async with simulator.serving() as (_, url):
        messages = [{"role": "user", "content": "x" * 8}]
        status, answer = await post(f"{url}/v1/chat/completions", messages=messages, max_tokens=2)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert '"message": {"role": "assistant", "content": " tok tok"}' in json.dumps(answer["choices"])


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        pytest.param({"max_tokens": 0}, 400, "max_tokens", id="no token"),
        pytest.param({"max_tokens": "many"}, 400, "max_tokens", id="a text for a number"),
        pytest.param({"max_tokens": 500_000}, 400, "exceed", id="longer than the model"),
        pytest.param({"rig_prompt_tokens": -1}, 400, "rig_prompt_tokens", id="a negative length"),
        pytest.param({"prompt": ""}, 400, "prompt", id="an empty prompt"),
        pytest.param({"prompt": ["a", "b"]}, 400, "prompt", id="a batch of prompts"),
        pytest.param({"n": 2}, 400, "n:", id="two choices"),
        pytest.param({"model": "other"}, 404, "does not exist", id="another engine's model"),
    ],
)
async def test_what_is_not_served_is_refused_with_the_field(
    changes: dict[str, object], status: int, message: str
) -> None:
    async with simulator.serving() as (server, url):
        got, answer = await post(url, **changes)
        assert got == status
        assert message in str(answer["error"])
        assert server.replica.engine.idle, "nothing reached the engine"


async def test_a_body_that_is_no_json_is_refused() -> None:
    async with (
        simulator.serving() as (_, url),
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/completions", data=b"{") as response,
    ):
        assert response.status == 400
        assert "not JSON" in await response.text()


async def test_the_side_doors_answer_as_vllm_s_do() -> None:
    async with simulator.serving(max_model_len=8192) as (_, url), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as health:
            assert (health.status, await health.read()) == (200, b"")
        async with session.get(f"{url}/version") as version:
            assert await version.json() == {"version": "0.33.0"}
        async with session.get(f"{url}/v1/models") as models:
            [model] = (await models.json())["data"]
            assert (model["id"], model["max_model_len"]) == ("chat", 8192)
        async with session.get(f"{url}/metrics") as metrics:
            assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert 'vllm:num_requests_running{model_name="chat",engine="0"} 0.0' in await metrics.text()


async def test_a_draining_engine_finishes_what_it_has_and_takes_nothing_new() -> None:
    async with simulator.serving() as (server, url):
        under_way = asyncio.create_task(streamed(url, max_tokens=DRAINED_TOKENS))
        await simulator.until(lambda: server.replica.engine.running == 1)
        drain = asyncio.create_task(server.drain(grace_s=5))
        await asyncio.sleep(0)
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/completions", json=BODY) as response:
            assert response.status == 503
            assert response.headers["Connection"] == "close"
        assert not drain.done()
        frames = await under_way
        assert len("".join(said(frame) for frame in frames).split()) == DRAINED_TOKENS, "no request is lost in a drain"
        await asyncio.wait_for(drain, 0.5)


async def test_a_drain_ends_with_its_grace_and_the_rest_is_cut_off() -> None:
    async with simulator.serving() as (server, url):
        under_way = asyncio.create_task(streamed(url, max_tokens=100_000))
        await simulator.until(lambda: server.replica.engine.running == 1)
        await asyncio.wait_for(server.drain(grace_s=0.1), 0.5)
        await server.close()
        with pytest.raises(aiohttp.ClientError):
            await under_way


async def test_a_client_that_hangs_up_is_counted_as_aborted() -> None:
    async with simulator.serving() as (server, url):
        under_way = asyncio.create_task(streamed(url, max_tokens=100))
        await simulator.until(lambda: server.replica.engine.running == 1)
        under_way.cancel()
        await simulator.until(lambda: server.replica.engine.idle)
        page = server.replica.page().decode()
        assert 'vllm:request_success_total{model_name="chat",engine="0",finished_reason="abort"} 1.0' in page


async def test_eight_streams_at_once_all_get_their_tokens() -> None:
    async with simulator.serving() as (server, url):
        answers = await asyncio.gather(*(streamed(url, max_tokens=20 + n) for n in range(8)))
        assert [len("".join(map(said, frames)).split()) for frames in answers] == [20 + n for n in range(8)]
        assert server.replica.engine.generation_tokens_total == sum(20 + n for n in range(8))
