"""The API server's client against scripted answers; the real server is in tests/integration."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from capstan.adapters import errors
from capstan.adapters.kube import client as kube_client
from capstan.adapters.kube import resources, wire
from support import adapters

DEPLOYMENT: dict[str, object] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x", "namespace": "llm"},
}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, errors.Rejected),
        (401, errors.Denied),
        (403, errors.Denied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Malformed),
        (422, errors.Rejected),
        (429, errors.Unavailable),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
async def test_a_status_becomes_a_word(code: int, error: type[errors.AdapterError]) -> None:
    client = adapters.kube(lambda _: adapters.status(code, "the server's own words"))
    with pytest.raises(error, match="the server's own words") as caught:
        await client.merge(resources.POLICIES, "chat", {}, namespace="llm")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>Sign in</html>", "not JSON"),
        (b'{"items": [', "not JSON"),
        (b"[1]", "not an object"),
        (b"[" * 200_000, "not JSON"),
    ],
    ids=["a login page", "cut off", "a list", "nested without end"],
)
async def test_what_is_no_object_is_malformed(content: bytes, says: str) -> None:
    client = adapters.kube(lambda _: httpx.Response(200, content=content))
    with pytest.raises(errors.Malformed, match=says):
        await client.get(resources.NODES, "n")


async def test_a_body_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 1000)
    client = adapters.kube(lambda _: httpx.Response(200, content=b" " * 1001))
    with pytest.raises(errors.Malformed, match="larger than 1000 bytes"):
        await client.get(resources.NODES, "n")


async def test_an_unknown_field_is_a_rejection_though_the_server_calls_it_500() -> None:
    """Seen on v1.35: server-side apply answers 500 for a field that the schema does not have."""
    words = "failed to create typed patch object (a/b; v1, Kind=Service): .spec.bogus: field not declared in schema"
    client = adapters.kube(lambda _: adapters.status(500, words))
    with pytest.raises(errors.Rejected, match="bogus"):
        await client.apply(DEPLOYMENT, manager="m")


async def test_a_server_that_takes_the_connection_and_says_nothing_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "DEADLINE_S", 0.05)

    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = adapters.kube(httpx.MockTransport(silent))
    with pytest.raises(errors.Unavailable, match="no answer within"):
        await client.get(resources.NODES, "n")


async def test_a_refused_connection_is_unavailable_and_is_not_hidden_in_retries() -> None:
    calls: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        raise httpx.ConnectError("connection refused", request=request)

    client = adapters.kube(refuse)
    with pytest.raises(errors.Unavailable, match="connection refused"):
        await client.get(resources.NODES, "n")
    with pytest.raises(errors.Unavailable):
        await client.merge(resources.NODES, "n", {})
    assert calls == ["GET", "PATCH"]


async def test_the_server_says_when_to_come_again() -> None:
    client = adapters.kube(lambda _: adapters.status(429, "too many requests", retry_after="7"))
    with pytest.raises(errors.Unavailable) as caught:
        await client.list(resources.PODS)
    assert caught.value.retry_after_s == 7


async def test_a_list_is_read_page_by_page_and_a_lost_page_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "PAGE_PAUSE_S", 0.01)
    calls: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.params.get("continue"))
        if calls == [None]:
            return httpx.Response(200, json={"metadata": {"continue": "next"}, "items": [{"n": 1}]})
        if calls == [None, "next"]:
            return adapters.status(503, "busy")
        return httpx.Response(200, json={"metadata": {"resourceVersion": "9"}, "items": [{"n": 2}]})

    found = await adapters.kube(answer).list(resources.PODS)
    assert (found.items, found.resource_version) == (({"n": 1}, {"n": 2}), "9")
    assert calls == [None, "next", "next"]


async def test_a_page_token_that_became_too_old_means_listing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "PAGE_PAUSE_S", 0.01)

    def answer(request: httpx.Request) -> httpx.Response:
        if "continue" in request.url.params:
            return adapters.status(410, "the provided continue parameter is too old")
        return httpx.Response(200, json={"metadata": {"continue": "next"}, "items": None})

    with pytest.raises(errors.Malformed, match="too old"):
        await adapters.kube(answer).list(resources.PODS)


async def test_an_apply_names_its_manager_and_forbids_unknown_fields() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    await adapters.kube(answer).apply(DEPLOYMENT, manager="capstan-serving", dry_run=True)
    assert seen[0].url.path == "/apis/apps/v1/namespaces/llm/deployments/x"
    expected = {"fieldManager": "capstan-serving", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}
    assert dict(seen[0].url.params) == expected
    assert seen[0].headers["authorization"] == "Bearer t"
    assert seen[0].headers["user-agent"].endswith("(test)")


async def test_replicas_are_set_through_scale_at_the_version_that_was_decided_on() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    await adapters.kube(answer).scale(resources.DEPLOYMENTS, "llm", "chat-tp4", 3, resource_version="41")
    assert (seen[0].method, seen[0].url.path) == ("PUT", "/apis/apps/v1/namespaces/llm/deployments/chat-tp4/scale")
    assert b'"resourceVersion": "41"' in seen[0].content
    assert b'"replicas": 3' in seen[0].content


async def test_only_writes_that_were_done_are_counted() -> None:
    """A dry run, a read and a refusal write nothing."""
    wrote: list[tuple[str, str]] = []
    answers = iter([httpx.Response(200, json={}), httpx.Response(200, json={}), adapters.status(409, "moved on")])
    client = adapters.kube(lambda _: next(answers), wrote=lambda *what: wrote.append(what))
    await client.apply(DEPLOYMENT, manager="m", dry_run=True)
    await client.apply(DEPLOYMENT, manager="m", subresource="status")
    with pytest.raises(errors.Conflict):
        await client.scale(resources.DEPLOYMENTS, "llm", "x", 1, resource_version="1")
    assert wrote == [("apply", "deployments/status")]


async def test_a_delete_holds_at_the_version_that_was_decided_on() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"kind": "Status"})

    wrote: list[tuple[str, str]] = []
    client = adapters.kube(answer, wrote=lambda *what: wrote.append(what))
    await client.delete(resources.LEDGERS, "row-1", resource_version="41")
    assert (seen[0].method, seen[0].url.path) == ("DELETE", "/apis/capstan.dev/v1alpha1/powerledgers/row-1")
    assert json.loads(seen[0].content) == {"preconditions": {"resourceVersion": "41"}}
    assert wrote == [("delete", "powerledgers")]
