"""A slow meter read through Prometheus: one number with its age, or a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import pytest

from capstan.app.power import readers
from support.adapters import prometheus_of, vector


def answers(value: str, age: str = "7", rows: int = 1) -> Callable[[httpx.Request], httpx.Response]:
    """A Prometheus that says a value, and the age of it when it is asked for that."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = parse_qs(request.content.decode())["query"][0]
        said = age if "timestamp(" in query else value
        return httpx.Response(200, json=vector(*(({"pdu": str(row)}, said) for row in range(rows))))

    return answer


async def test_a_meter_is_a_number_with_its_age() -> None:
    found = await readers.reader(prometheus_of(answers("8511.5")))("pdu_watts")
    assert (found.value_w, found.age_s, found.problem) == (8511.5, 7, "")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (answers("8511", rows=0), "no series"),
        (answers("8511", rows=3), "3 series, not one number: wrap it in sum()"),
        (answers("NaN"), "no series"),
        (answers("-5"), "-5 W, which no feed carries"),
        (answers("1e30"), "which no feed carries"),
        (lambda _: httpx.Response(503), "HTTP 503"),
        (lambda _: httpx.Response(200, text="<html>"), "is the URL a Prometheus?"),
        (
            lambda _: httpx.Response(400, json={"status": "error", "error": "parse error"}),
            "did not take the query (HTTP 400): parse error",
        ),
    ],
    ids=["nothing", "a vector", "NaN", "negative", "absurd", "down", "HTML", "a query that is none"],
)
async def test_a_meter_that_says_nothing_says_why(answer: Callable[[httpx.Request], httpx.Response], said: str) -> None:
    found = await readers.reader(prometheus_of(answer))("pdu_watts")
    assert found.value_w is None
    assert said in found.problem


async def test_without_a_prometheus_the_message_names_the_option() -> None:
    found = await readers.reader(None)("pdu_watts")
    assert "--prometheus-url" in found.problem
