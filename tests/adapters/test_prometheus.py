"""Prometheus at its worst: down, slow, HTML, NaN, empty, huge. Nothing absurd becomes a number."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

import httpx
import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.adapters import errors
from capstan.adapters.prometheus import client, vllm
from capstan.model.reading import Source, pooled


def vector(*rows: tuple[dict[str, str], str]) -> dict[str, object]:
    result = [{"metric": labels, "value": [1000.0, value]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def success(kind: str, *rows: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": kind, "result": list(rows)}}


def answering(answer: Callable[[httpx.Request], httpx.Response], **source: object) -> client.Prometheus:
    where = client.Source("http://prometheus", **source)  # type: ignore[arg-type]  # a builder
    return client.Prometheus(where, transport=httpx.MockTransport(answer))


def saying(status: int = 200, **content: object) -> client.Prometheus:
    return answering(lambda _: httpx.Response(status, **content))  # type: ignore[arg-type]  # a builder


async def test_an_answer_is_labels_and_numbers() -> None:
    found = await saying(json=vector(({"pod": "a"}, "1.5"))).instant("up")
    assert found.points == (client.Point({"pod": "a"}, 1.5),)


async def test_an_empty_vector_is_no_samples() -> None:
    assert (await saying(json=vector()).instant("up")).points == ()


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_what_is_no_number_is_no_sample(value: str) -> None:
    found = await saying(json=vector(({"pod": "a"}, value), ({"pod": "b"}, "2"))).instant("up")
    assert [point.labels["pod"] for point in found.points] == ["b"]


async def test_warnings_are_kept() -> None:
    partial = {**vector(), "warnings": ["partial response"]}
    assert (await saying(json=partial).instant("up")).warnings == ("partial response",)


@pytest.mark.parametrize(
    ("prometheus", "error", "says"),
    [
        (saying(503, text="starting"), errors.Unavailable, "HTTP 503"),
        (saying(429, text="slow down"), errors.Unavailable, "HTTP 429"),
        (saying(200, html="<html>Sign in</html>"), errors.Malformed, "not JSON (text/html"),
        (saying(302, headers={"location": "http://login"}), errors.Malformed, "redirects"),
        (saying(401, text="who?"), errors.Denied, "token file"),
        (saying(200, text='{"status":"success","data":{"resultT'), errors.Malformed, "not JSON"),
        (saying(400, json={"status": "error", "error": "parse error"}), errors.Malformed, "parse error"),
        (saying(200, json=success("scalar")), errors.Malformed, "no vector"),
        (saying(200, json=vector(({"pod": "a"}, "seven"))), errors.Malformed, "'seven'"),
        (saying(200, json=success("vector", 7)), errors.Malformed, "row"),
        (saying(200, content=b"x" * (client.MAX_BYTES + 1)), errors.Malformed, "larger than"),
    ],
    ids=[
        "starting", "overloaded", "a login page", "a redirect", "no token", "cut off", "a bad query", "a scalar",
        "a word", "a stray row", "too large",
    ],
)  # fmt: skip
async def test_every_wrong_answer_has_its_own_error(
    prometheus: client.Prometheus, error: type[errors.AdapterError], says: str
) -> None:
    with pytest.raises(error, match=says.replace("(", r"\(")):
        await prometheus.instant("up")


async def test_a_prometheus_that_is_down_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(errors.Unavailable, match="cannot be reached: connection refused"):
        await answering(refuse).instant("up")


async def test_a_slow_prometheus_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "DEADLINE_S", 0.05)

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(5)
        return httpx.Response(200, json=vector())

    prometheus = client.Prometheus(client.Source("http://p"), transport=httpx.MockTransport(slow))
    with pytest.raises(errors.Unavailable, match="no answer within"):
        await prometheus.instant("up")


async def test_the_token_file_is_read_again(tmp_path: object) -> None:
    from pathlib import Path

    token = Path(str(tmp_path)) / "token"
    sent: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        return httpx.Response(200, json=vector())

    prometheus = answering(note, token_file=token)
    for word in ("one", "two"):
        token.write_text(word + "\n")
        await prometheus.instant("up")
    assert sent == ["Bearer one", "Bearer two"]


def test_an_address_that_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(errors.Malformed, match="http://HOST:PORT"):
        client.Prometheus(client.Source("prometheus:9090"))


@given(st.text())
def test_no_label_value_escapes_its_quotes(value: str) -> None:
    parsed = promql_parser.parse("up{" + client.matcher("pod", value.replace("\x00", "")) + "}")
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [m.value for m in parsed.matchers.matchers] == [value.replace("\x00", "")]


@pytest.mark.parametrize(
    "query",
    [vllm.engine_query(60), vllm.ttft_query(60), vllm.tpot_query(60), vllm.power_query()],
    ids=["engine", "ttft", "tpot", "power"],
)
def test_our_queries_parse(query: str) -> None:
    assert promql_parser.parse(query) is not None


def telemetry(rows: dict[str, dict[str, object]]) -> vllm.Telemetry:
    """Answer each of the four queries from `rows`; a missing one is an empty vector."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = dict(httpx.QueryParams(request.content.decode()))["query"]
        names = {"DCGM": "gpu", "first_token_seconds_bucket": "ttft", "output_token_seconds_bucket": "tpot"}
        kind = next((name for word, name in names.items() if word in query), "engine")
        return httpx.Response(200, json=rows.get(kind, vector()))

    return vllm.Telemetry(answering(answer), window_s=60, wall_s=lambda: 1000.0)


POD = {"namespace": "llm", "pod": "chat-1"}


def engine_row(what: str, value: float) -> tuple[dict[str, str], str]:
    return {**POD, "what": what}, str(value)


async def test_a_pod_becomes_one_record() -> None:
    engine = vector(
        engine_row("arrived", 120), engine_row("finished", 100), engine_row("prompt", 115_500),
        engine_row("output", 21_100), engine_row("running", 9), engine_row("waiting", 0), engine_row("seen", 997),
    )  # fmt: skip
    buckets = [({**POD, "le": le}, count) for le, count in (("0.5", "50"), ("1", "99"), ("+Inf", "100"))]
    gpu = {"namespace": "monitoring", "pod": "dcgm-x", "exported_namespace": "llm", "exported_pod": "chat-1"}
    power = vector(({**gpu, "what": "watts"}, "1800"), ({**gpu, "what": "gpus"}, "4"), ({**gpu, "what": "seen"}, "990"))
    readings = await telemetry({"engine": engine, "ttft": vector(*buckets), "gpu": power}).read({})
    (pod,) = readings.pods
    assert (pod.key, pod.arrival_rps, pod.age_s, pod.power_w, pod.gpus) == ("llm/chat-1", 2.0, 3.0, 1800.0, 4)
    together = pooled(readings.pods, percentile_ratio=0.99)
    assert (together.prompt_tokens, together.ttft_s) == (1155.0, 1.0)
    assert together.tpot_s is None


async def test_silence_is_no_pods_and_no_error() -> None:
    readings = await telemetry({}).read({})
    assert (readings.pods, readings.errors) == ((), ())


async def test_one_source_down_leaves_the_other() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if b"DCGM" in request.content:
            return httpx.Response(503)
        return httpx.Response(200, json=vector(engine_row("running", 3)))

    readings = await vllm.Telemetry(answering(answer), window_s=60, wall_s=lambda: 0.0).read({})
    assert [pod.running for pod in readings.pods] == [3.0]
    found = readings.error_of(Source.GPU)
    assert found is not None
    assert "503" in found.message
    assert readings.error_of(Source.ENGINE) is None


async def test_a_shrinking_queue_is_no_negative_rate() -> None:
    readings = await telemetry({"engine": vector(engine_row("arrived", -30))}).read({})
    assert readings.pods[0].arrival_rps == 0


async def test_half_a_histogram_is_no_histogram() -> None:
    readings = await telemetry({"ttft": vector(({**POD, "le": "0.5"}, "50"))}).read({})
    assert readings.pods[0].ttft is None
    assert not math.isnan(readings.taken_at_s)


def test_json_is_what_the_transport_sends() -> None:
    """The builder above is what Prometheus sends (a sample recorded from 3.15, cut to one series)."""
    recorded = (
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1000,"1.5"]}]}}'
    )
    assert json.loads(recorded) == vector(({"pod": "a"}, "1.5"))
