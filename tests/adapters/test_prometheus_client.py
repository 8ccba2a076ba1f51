"""Prometheus at its worst: down, slow, HTML, NaN, empty, huge. Nothing absurd becomes a number."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import httpx
import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.adapters import errors
from capstan.adapters.prometheus import client
from support.adapters import prometheus_of, prometheus_saying, vector


async def test_an_answer_is_labels_and_numbers() -> None:
    found = await prometheus_saying(json=vector(({"pod": "a"}, "1.5"))).instant("up")
    assert found.points == (client.Point({"pod": "a"}, 1.5),)


async def test_an_empty_vector_is_no_samples() -> None:
    assert (await prometheus_saying(json=vector()).instant("up")).points == ()


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e999"])
async def test_what_is_no_finite_number_is_no_sample(value: str) -> None:
    found = await prometheus_saying(json=vector(({"pod": "a"}, value), ({"pod": "b"}, "2"))).instant("up")
    assert [point.labels["pod"] for point in found.points] == ["b"]


async def test_warnings_are_kept() -> None:
    partial = {**vector(), "warnings": ["partial response"]}
    assert (await prometheus_saying(json=partial).instant("up")).warnings == ("partial response",)


def data(**of: object) -> dict[str, object]:
    return {"json": {"status": "success", "data": of}}


def rows(*result: object) -> dict[str, object]:
    return data(resultType="vector", result=result)


BOMB = {"content": gzip.compress(b"{}"), "headers": {"content-encoding": "gzip"}}


@pytest.mark.parametrize(
    ("status", "content", "error", "says"),
    [
        (503, {"text": "starting"}, errors.Unavailable, "HTTP 503"),
        (429, {"text": "slow down"}, errors.Unavailable, "HTTP 429"),
        (401, {"text": "who?"}, errors.Denied, "token file"),
        (403, {"text": "no"}, errors.Denied, "token file"),
        (400, {"json": {"status": "error", "error": "parse error"}}, errors.Rejected, "parse error"),
        (302, {"headers": {"location": "http://login"}}, errors.Malformed, "redirects .* to 'http://login'"),
        (304, {}, errors.Malformed, "redirects"),
        (200, {"html": "<html>Sign in</html>"}, errors.Malformed, "not JSON .*html.*: is the URL a Prometheus"),
        (404, {"text": "404 page not found"}, errors.Malformed, "HTTP 404.* not JSON"),
        (200, {"text": '{"status":"success","data":{"resultT'}, errors.Malformed, "not JSON"),
        (200, {"text": "[" * 200_000}, errors.Malformed, "not JSON"),
        (200, {"json": [1]}, errors.Malformed, "has no status"),
        (200, {"json": {"message": "hello"}}, errors.Malformed, "has no status"),
        (200, data(resultType="scalar", result=[]), errors.Malformed, "no vector"),
        (200, rows(7), errors.Malformed, "row"),
        (200, rows({"value": [1, "2"]}), errors.Malformed, "without labels"),
        (200, rows({"metric": {"a": 1}, "value": [1, "2"]}), errors.Malformed, "without labels"),
        (200, rows({"metric": {}, "value": 7}), errors.Malformed, r"no \[time, value\]"),
        (200, rows({"metric": {}, "value": [1, 2]}), errors.Malformed, r"no \[time, value\]"),
        (200, {"json": vector(({"pod": "a"}, "seven"))}, errors.Malformed, "'seven'"),
        (200, {"content": b"x" * (client.MAX_BYTES + 1)}, errors.Malformed, "larger than"),
        (200, BOMB, errors.Malformed, "compressed"),
    ],
    ids=[
        "starting", "overloaded", "no token", "a wrong token", "a bad query", "a redirect", "a cache's answer",
        "a login page", "a wrong path", "cut off", "nested without end", "a list", "somebody else's JSON", "a scalar",
        "a stray row", "no labels", "labels that are numbers", "a bare value", "a number for a string", "a word",
        "too large", "a bomb",
    ],
)  # fmt: skip
async def test_every_wrong_answer_has_its_own_error(
    status: int, content: dict[str, object], error: type[errors.AdapterError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        await prometheus_saying(status, **content).instant("up")
    assert type(caught.value) is error


async def test_a_prometheus_that_is_down_is_unavailable_and_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(errors.Unavailable, match="cannot be reached at http://prometheus: connection refused"):
        await prometheus_of(refuse).instant("up")


async def test_a_slow_prometheus_is_unavailable_and_the_deadline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "DEADLINE_S", 0.05)

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(5)
        return httpx.Response(200, json=vector())

    prometheus = client.Prometheus(client.Source("http://p"), transport=httpx.MockTransport(slow))
    with pytest.raises(errors.Unavailable, match=r"no answer within 0\.05 s"):
        await prometheus.instant("up")


async def test_a_range_keeps_the_finite_points_of_every_series() -> None:
    result = [{"metric": {"pod": "a"}, "values": [[10, "1"], [20.5, "NaN"], [30, "3"]]}]
    series = await prometheus_saying(**data(resultType="matrix", result=result)).range(
        "up", start_s=10, end_s=30, step_s=10
    )
    assert series == (client.Series({"pod": "a"}, ((10.0, 1.0), (30.0, 3.0))),)


async def test_a_range_with_a_wrong_time_is_malformed() -> None:
    result = [{"metric": {}, "values": [["noon", "1"]]}]
    with pytest.raises(errors.Malformed, match="'noon'"):
        await prometheus_saying(**data(resultType="matrix", result=result)).range("up", start_s=0, end_s=1, step_s=1)


async def test_the_token_file_is_read_again_and_headers_go_along(tmp_path: Path) -> None:
    token = tmp_path / "token"
    sent: list[httpx.Headers] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json=vector())

    prometheus = prometheus_of(note, token_file=token, headers={"X-Scope-OrgID": "llm"})
    for word in ("one", "two"):
        token.write_text(word + "\n")
        await prometheus.instant("up")
    assert [headers["authorization"] for headers in sent] == ["Bearer one", "Bearer two"]
    assert {headers["x-scope-orgid"] for headers in sent} == {"llm"}


async def test_a_token_file_that_is_gone_is_denied(tmp_path: Path) -> None:
    with pytest.raises(errors.Denied, match="token file cannot be read"):
        await prometheus_of(lambda _: httpx.Response(200), token_file=tmp_path / "nowhere").instant("up")


@pytest.mark.parametrize("url", ["prometheus:9090", "file:///etc/passwd", ""])
def test_an_address_that_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(errors.Malformed, match="http://HOST:PORT"):
        client.Prometheus(client.Source(url))


def test_a_ca_file_that_is_no_certificate_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    with pytest.raises(errors.Malformed, match="not usable PEM"):
        client.Prometheus(client.Source("https://p", ca_file=tmp_path / "ca.crt"))


HOSTILE = st.sampled_from('"\\\n\r\t{}=~|')
ANY = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])  # what UTF-8 can carry


@given(st.text(alphabet=HOSTILE | ANY))
def test_no_label_value_escapes_its_quotes(value: str) -> None:
    parsed = promql_parser.parse("up{" + client.matcher("pod", value) + "}")
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [(m.name, m.value) for m in parsed.matchers.matchers] == [("pod", value)]
