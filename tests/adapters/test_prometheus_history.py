"""Histories over real HTTP from a small server that answers as Prometheus does, or as something else does."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import promql_parser
import pytest

from capstan.adapters import errors
from capstan.adapters.prometheus import history

START = datetime(2026, 11, 20, tzinfo=UTC)
Answer = Callable[[str, float, float, float], tuple[int, str]]


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server and the queries that it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            given = {key: values[0] for key, values in parse_qs(url.query).items()}
            asked.append(given["query"])
            span = float(given["start"]), float(given["end"]), float(given["step"].rstrip("s"))
            status, body = answer(given["query"], *span)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> tuple[int, str]:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def moments(start_s: float, end_s: float, step_s: float) -> list[float]:
    return [start_s + i * step_s for i in range(round((end_s - start_s) / step_s) + 1)]


def vllm(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
    """10 requests a step; prompts up to 100 and 1,000 tokens, outputs up to 50."""
    at_s = moments(start_s, end_s, step_s)
    if "request_success_total" in query:
        return matrix(({}, [(t, "10") for t in at_s]))
    if "_sum" in query:
        return matrix(({}, [(t, "3000" if "prompt" in query else "200") for t in at_s]))
    table = {"100": "4", "1000": "10", "+Inf": "10"} if "prompt" in query else {"50": "10", "+Inf": "10"}
    return matrix(*(({"le": edge}, [(t, count) for t in at_s]) for edge, count in table.items()))


def ask(url: str, *, steps: int = 3, selector: str = "") -> history.Ask:
    return history.Ask(url, START, START + timedelta(minutes=steps), 60, selector)


def test_counts_and_histograms_come_step_by_step() -> None:
    with answering(vllm) as (url, asked):
        found = history.read(ask(url, selector='{model_name="llama",}'))
    assert found.requests == (10, 10, 10)
    assert found.prompt.counts == {100: (4, 4, 4), 1000: (10, 10, 10), math.inf: (10, 10, 10)}
    assert found.prompt.sum_tokens == (3000, 3000, 3000)
    assert found.output.counts == {50: (10, 10, 10), math.inf: (10, 10, 10)}
    assert asked == [
        'sum(increase(vllm:request_success_total{model_name="llama"}[60s]))',
        'sum by (le) (increase(vllm:request_prompt_tokens_bucket{model_name="llama"}[60s]))',
        'sum(increase(vllm:request_prompt_tokens_sum{model_name="llama"}[60s]))',
        'sum by (le) (increase(vllm:request_generation_tokens_bucket{model_name="llama"}[60s]))',
        'sum(increase(vllm:request_generation_tokens_sum{model_name="llama"}[60s]))',
    ]
    for query in asked:
        promql_parser.parse(query)


def test_without_a_sum_there_are_the_buckets() -> None:
    def sumless(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
        return matrix() if "_sum" in query else vllm(query, start_s, end_s, step_s)

    with answering(sumless) as (url, _):
        assert history.read(ask(url)).output.sum_tokens is None


def test_a_value_at_a_steps_end_tells_of_that_step() -> None:
    """Prometheus answers 00:01 with what came since 00:00: that is step 0. A step without a sample is NaN."""

    def sparse(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
        assert start_s == START.timestamp() + 60
        assert end_s == START.timestamp() + 180
        if "success" in query:
            return matrix(({}, [(start_s, "1"), (end_s, "3")]))
        return vllm(query, start_s, end_s, step_s)

    with answering(sparse) as (url, _):
        found = history.read(ask(url)).requests
    assert (found[0], found[2]) == (1, 3)
    assert math.isnan(found[1])


def test_a_long_span_is_asked_for_in_pieces() -> None:
    """11,000 points is the most that Prometheus answers; 25,000 steps are three questions of each kind."""
    spans: list[int] = []

    def counting(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
        spans.append(len(moments(start_s, end_s, step_s)))
        return vllm(query, start_s, end_s, step_s)

    with answering(counting) as (url, _):
        found = history.read(ask(url, steps=25_000))
    assert spans == [10_000, 10_000, 5_000] * 5
    assert found.requests == (10,) * 25_000


def test_without_the_counter_prompts_are_counted() -> None:
    def older(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
        if "success" in query:
            return matrix()
        if "_count" in query:
            return matrix(({}, [(t, "7") for t in moments(start_s, end_s, step_s)]))
        return vllm(query, start_s, end_s, step_s)

    with answering(older) as (url, _):
        found = history.read(ask(url))
    assert found.requests == (7, 7, 7)
    assert "vllm:request_prompt_tokens_count" in found.counted


def test_a_server_without_the_metric_says_what_was_asked() -> None:
    with answering(lambda *_: matrix()) as (url, _), pytest.raises(errors.NotFound) as caught:
        history.read(ask(url, selector='model_name="nobody"'))
    assert 'vllm:request_success_total{model_name="nobody"}' in str(caught.value)
    assert "vllm:request_prompt_tokens_count" in str(caught.value)


def test_a_server_without_histograms_says_so() -> None:
    def counts_only(query: str, start_s: float, end_s: float, step_s: float) -> tuple[int, str]:
        return vllm(query, start_s, end_s, step_s) if "success" in query else matrix()

    with answering(counts_only) as (url, _), pytest.raises(errors.NotFound, match="request_prompt_tokens_bucket"):
        history.read(ask(url))


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, '{"status":"error","error":"parse error"}', errors.Rejected, "parse error"),
        (200, "<html>login</html>", errors.Malformed, "not JSON"),
        (200, "[]", errors.Malformed, "no result"),
        (200, '{"data": {"result": 5}}', errors.Malformed, "no list"),
        (200, '{"data": {"result": [{"metric": {}, "values": [1, 2]}]}}', errors.Malformed, "no labels or samples"),
        (
            200,
            '{"data": {"result": [{"metric": {}, "values": [[0, "many"]]}]}}',
            errors.Malformed,
            "'many' is no number",
        ),
    ],
)
def test_what_is_no_answer_of_prometheus_is_refused(
    status: int, body: str, kind: type[errors.AdapterError], says: str
) -> None:
    with answering(lambda *_: (status, body)) as (url, _), pytest.raises(kind, match=says):
        history.read(ask(url))


def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RETRIES", 0)
    with answering(vllm) as (url, _):
        pass
    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        history.read(ask(url))


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(errors.Rejected, match="http://"):
        history.read(ask("localhost:9090"))
