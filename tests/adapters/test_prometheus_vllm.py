"""From Prometheus' answers to a record per pod. What the queries mean to a real Prometheus: tests/integration."""

from __future__ import annotations

import math

import httpx
import promql_parser
import pytest

from capstan.adapters.prometheus import vllm
from capstan.model.reading import Histogram, Lengths, Source, pooled
from support.adapters import prometheus_of, vector

POD = {"namespace": "llm", "pod": "chat-1"}
EXPORTER = {"namespace": "monitoring", "pod": "dcgm-x", "exported_namespace": "llm", "exported_pod": "chat-1"}
Row = tuple[dict[str, str], str]


def row(what: str, value: float, labels: dict[str, str] | None = None) -> Row:
    return {**(labels or POD), "what": what}, str(value)


def kind_of(request: httpx.Request) -> str:
    query = dict(httpx.QueryParams(request.content.decode()))["query"]
    words = {
        "prompt_tokens_bucket": "prompts",
        "generation_tokens_bucket": "outputs",
        "DCGM": "gpu",
        "first_token_seconds_bucket": "ttft",
        "output_token_seconds_bucket": "tpot",
    }
    return next((kind for word, kind in words.items() if word in query), "engine")


def telemetry(**answers: dict[str, object] | httpx.Response) -> vllm.Telemetry:
    """Answer each of the six queries; one that is not given is an empty vector."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(kind_of(request), vector())
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    return vllm.Telemetry(prometheus_of(answer), window_s=60, wall_s=lambda: 1000.0)


@pytest.mark.parametrize("matchers", [{}, {"cluster": 'a"b\\c\n', "tenant": "x"}], ids=["plain", "with matchers"])
def test_our_queries_parse_and_every_selector_carries_the_matchers(matchers: dict[str, str]) -> None:
    queries = vllm.Queries(7.5, matchers)
    lengths = (queries.lengths(vllm.PROMPTS), queries.lengths(vllm.OUTPUTS))
    latencies = [queries.and_lately(buckets) for buckets in (queries.ttft, queries.tpot)]
    for query in (queries.engines(), *latencies, *lengths, queries.gpus()):
        selectors = list(selected(promql_parser.parse(query)))
        assert selectors, query
        for selector in selectors:
            assert {m.name: m.value for m in selector.matchers.matchers} == matchers


def selected(node: object) -> list[promql_parser.VectorSelector]:
    """Return every selector in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    children += list(getattr(node, "args", None) or [])
    return [found for child in children if child is not None for found in selected(child)]


async def test_a_cycle_is_six_queries_whatever_the_number_of_pods() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(kind_of(request))
        return httpx.Response(200, json=vector())

    await vllm.Telemetry(prometheus_of(answer), window_s=60).read()
    assert sorted(asked) == ["engine", "gpu", "outputs", "prompts", "tpot", "ttft"]


async def test_a_pod_becomes_one_record() -> None:
    engine = vector(
        row("arrived", 120), row("finished", 100), row("prompt", 115_500), row("output", 21_100),
        row("running", 9), row("waiting", 0), row("age_s", 3), row("tokens_per_s", 350),
    )  # fmt: skip
    buckets = [({**POD, "le": le}, count) for le, count in (("0.5", "50"), ("1", "99"), ("+Inf", "100"))]
    power = vector(row("watts", 1800, EXPORTER), row("gpus", 4, EXPORTER), row("age_s", 10, EXPORTER))
    readings = await telemetry(engine=engine, ttft=vector(*buckets), gpu=power).read()
    (pod,) = readings.pods
    assert (pod.key, pod.arrival_rps, pod.age_s, pod.running) == ("llm/chat-1", 2.0, 3.0, 9.0)
    assert (pod.power_w, pod.gpus, pod.power_age_s) == (1800.0, 4, 10.0)
    together = pooled(readings.pods, percentile_ratio=0.99)
    assert (together.prompt_tokens, together.output_tokens, together.ttft_s) == (1155.0, 211.0, 1.0)
    assert together.tpot_s is None
    assert readings.taken_at_s == 1000.0


def bucket(le: str, count: float) -> Row:
    return {**POD, "le": le}, str(count)


async def test_lengths_are_a_histogram_with_its_empty_buckets_and_a_sum() -> None:
    """All 40 prompts have 201 to 500 tokens: the empty bucket at 200 says where theirs begins."""
    prompts = vector(bucket("200", 0), bucket("500", 40), bucket("+Inf", 40), row("sum", 14_000))
    (pod,) = (await telemetry(engine=vector(row("running", 1)), prompts=prompts).read()).pods
    assert pod.prompts == Lengths(Histogram((200.0, 500.0, math.inf), (0.0, 40.0, 40.0)), 14_000.0)
    assert pod.prompts.mean_tokens == 350
    assert pod.outputs is None


async def test_both_windows_of_a_latency_come_in_one_answer() -> None:
    """50 of 60 requests of the last minute within 0.5 s, 290 of 300 of the last five minutes."""
    late = [({**POD, "le": le, "what": "lately"}, str(n)) for le, n in (("0.5", 290), ("+Inf", 300))]
    ttft = vector(bucket("0.5", 50), bucket("+Inf", 60), *late)
    (pod,) = (await telemetry(ttft=ttft, tpot=vector(*late)).read()).pods
    assert pod.ttft == Histogram((0.5, math.inf), (50.0, 60.0))
    assert pod.ttft_lately == pod.tpot_lately == Histogram((0.5, math.inf), (290.0, 300.0))
    assert pod.tpot is None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((bucket("500", 40), row("sum", 14_000)), id="no last bucket"),
        pytest.param((bucket("500", 40), bucket("+Inf", 40)), id="no sum"),
        pytest.param((bucket("500", 40), bucket("+Inf", 40), row("sum", -1)), id="a negative sum"),
        pytest.param((bucket("500", -3), bucket("+Inf", 40), row("sum", 14_000)), id="a negative count"),
        pytest.param((row("sum", 14_000),), id="no buckets"),
    ],
)
async def test_lengths_that_are_not_whole_are_none(rows: tuple[Row, ...]) -> None:
    (pod,) = (await telemetry(engine=vector(row("running", 1)), prompts=vector(*rows)).read()).pods
    assert pod.prompts is None


async def test_lengths_that_cannot_be_read_are_a_warning_and_cost_nothing_else() -> None:
    readings = await telemetry(engine=vector(row("running", 3)), outputs=httpx.Response(503)).read()
    assert [pod.running for pod in readings.pods] == [3.0]
    assert readings.errors == ()
    assert readings.warnings == ("lengths of requests: Prometheus answered HTTP 503",)


async def test_where_the_scrape_honors_labels_the_pod_is_the_workloads() -> None:
    readings = await telemetry(gpu=vector(row("watts", 700), row("gpus", 1))).read()
    assert [(pod.key, pod.power_w) for pod in readings.pods] == [("llm/chat-1", 700.0)]


async def test_a_gpu_without_a_workload_is_nobodys() -> None:
    """With `exported_namespace` there and `exported_pod` not, `pod` is the exporter and no engine."""
    idle = {"namespace": "monitoring", "pod": "dcgm-x", "exported_namespace": "llm"}
    assert (await telemetry(gpu=vector(row("watts", 90, idle))).read()).pods == ()


async def test_silence_is_no_pods_and_no_error() -> None:
    readings = await telemetry().read()
    assert (readings.pods, readings.errors) == ((), ())


@pytest.mark.parametrize(("down", "up"), [("gpu", Source.ENGINE), ("ttft", Source.GPU)])
async def test_one_source_down_leaves_the_other(down: str, up: Source) -> None:
    rows: dict[str, dict[str, object] | httpx.Response] = {
        "engine": vector(row("running", 3)),
        "gpu": vector(row("watts", 700)),
        down: httpx.Response(503),
    }
    readings = await telemetry(**rows).read()
    (other,) = set(Source) - {up}
    found = readings.error_of(other)
    assert found is not None
    assert "503" in found.message
    assert readings.error_of(up) is None
    (pod,) = readings.pods
    assert (pod.running is None, pod.power_w is None) == (up is Source.GPU, up is Source.ENGINE)


async def test_warnings_of_every_query_are_kept() -> None:
    partial = {**vector(), "warnings": ["partial"]}
    assert (await telemetry(engine=partial, gpu=partial).read()).warnings == ("partial", "partial")


async def test_requests_that_give_up_in_the_queue_make_no_negative_rate() -> None:
    readings = await telemetry(engine=vector(row("arrived", -30))).read()
    assert readings.pods[0].arrival_rps == 0


async def test_a_count_below_zero_is_no_count() -> None:
    readings = await telemetry(engine=vector(row("running", -1), row("waiting", 2))).read()
    assert (readings.pods[0].running, readings.pods[0].waiting) == (None, 2.0)


async def test_what_has_no_pod_is_left_out() -> None:
    readings = await telemetry(engine=vector(({"namespace": "llm", "what": "running"}, "3"))).read()
    assert readings.pods == ()


@pytest.mark.parametrize(
    "buckets",
    [
        [("0.5", "50")],
        [("0.5", "-1"), ("+Inf", "5")],
        [("soon", "3")],
    ],
    ids=["no +Inf", "a negative count", "an edge that is a word"],
)
async def test_half_a_histogram_is_no_histogram(buckets: list[tuple[str, str]]) -> None:
    readings = await telemetry(ttft=vector(*(({**POD, "le": le}, n) for le, n in buckets))).read()
    assert readings.pods[0].ttft is None


async def test_buckets_that_fall_are_lifted_not_lost() -> None:
    """A scrape between two increments shows fewer at a higher edge."""
    buckets = [("0.5", "60"), ("1", "59"), ("+Inf", "60")]
    readings = await telemetry(ttft=vector(*(({**POD, "le": le}, n) for le, n in buckets))).read()
    found = readings.pods[0].ttft
    assert found is not None
    assert found.counts == (60, 60, 60)
