"""The API server's client, cache and Lease against scripted answers; the real server is in tests/integration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from capstan.adapters import errors
from capstan.adapters.kube import config, lease, resources
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.kube.reflector import Reflector

Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer) -> KubeClient:
    return KubeClient(
        config.Config("http://api", token="t"), component="test", transport=httpx.MockTransport(answer)
    )


def status(code: int, message: str, **headers: str) -> httpx.Response:
    return httpx.Response(code, json={"kind": "Status", "message": message}, headers=headers)


@pytest.mark.parametrize(
    ("code", "error"),
    [
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
async def test_a_status_becomes_a_word(
    code: int, error: type[errors.AdapterError]
) -> None:
    client = client_of(lambda _: status(code, "the server's own words"))
    with pytest.raises(error, match="the server's own words"):
        await client.merge(resources.POLICIES, "chat", {}, namespace="llm")


async def test_an_unknown_field_is_a_rejection_though_the_server_calls_it_500() -> None:
    """Seen on v1.35: server-side apply answers 500 for a field that the schema does not have."""
    client = client_of(lambda _: status(500, "failed to create typed patch object (a/b): .spec.bogus"))
    document: dict[str, object] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "a"}}
    with pytest.raises(errors.Rejected):
        await client.apply(document, manager="m")


async def test_a_read_is_tried_again_and_a_write_is_not() -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(200, json={"ok": True}) if len(calls) == 2 else status(503, "busy")

    client = client_of(answer)
    assert await client.get(resources.NODES, "n") == {"ok": True}
    calls.clear()
    with pytest.raises(errors.Unavailable):
        await client.merge(resources.NODES, "n", {})
    assert calls == ["PATCH"]


async def test_a_list_is_read_page_by_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "continue" in request.url.params:
            return httpx.Response(200, json={"metadata": {"resourceVersion": "9"}, "items": [{"n": 2}]})
        return httpx.Response(200, json={"metadata": {"continue": "next"}, "items": [{"n": 1}]})

    found = await client_of(answer).list(resources.PODS)
    assert (found.items, found.resource_version) == (({"n": 1}, {"n": 2}), "9")


async def test_an_apply_names_its_manager_and_forbids_unknown_fields() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    document: dict[str, object] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "llm"},
    }
    await client_of(answer).apply(document, manager="capstan-serving", dry_run=True)
    assert seen[0].url.path == "/apis/apps/v1/namespaces/llm/deployments/x"
    expected = {"fieldManager": "capstan-serving", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}
    assert dict(seen[0].url.params) == expected
    assert seen[0].headers["authorization"] == "Bearer t"


class Script:
    """An API server that lists and watches from a script; after it, watches stay open."""

    def __init__(self, *watches: list[str]) -> None:
        self.watches = list(watches)
        self.lists = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            self.lists += 1
            pod = {"metadata": {"namespace": "llm", "name": "listed", "resourceVersion": "1"}}
            return httpx.Response(200, json={"metadata": {"resourceVersion": str(self.lists)}, "items": [pod]})
        lines = self.watches.pop(0) if self.watches else []
        return httpx.Response(200, text="".join(line + "\n" for line in lines))


def event(kind: str, name: str) -> str:
    return json.dumps(
        {"type": kind, "object": {"metadata": {"namespace": "llm", "name": name, "resourceVersion": "5"}}}
    )


async def cache_after(
    script: Script, *, until: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    monkeypatch.setattr("capstan.adapters.kube.reflector.BACKOFF_FIRST_S", 0.01)
    cache = Reflector(client_of(script), resources.PODS, lambda raw: raw["metadata"]["name"])  # type: ignore[index,call-overload]  # raw JSON
    task = asyncio.create_task(cache.run())
    for _ in range(300):
        if until(cache.items):
            break
        await asyncio.sleep(0.005)
    task.cancel()
    return cache.items


async def test_a_cache_follows_events() -> None:
    script = Script([event("ADDED", "new"), event("BOOKMARK", "-"), event("DELETED", "listed")])
    items = await cache_after(script, until=lambda items: list(items) == ["llm/new"])
    assert items == {"llm/new": "new"}


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}),
        json.dumps({"type": "ERROR", "object": {"code": 500, "message": "etcd is gone"}}),
        '{"type":"ADDED","obj',
        "<html>bad gateway</html>",
    ],
    ids=["410", "500", "a cut line", "HTML"],
)
async def test_whatever_breaks_a_watch_ends_in_a_new_list(line: str) -> None:
    script = Script([event("ADDED", "gone-later"), line])
    await cache_after(script, until=lambda _: script.lists >= 2)
    assert script.lists >= 2


async def test_somebody_elses_crd_that_is_not_there_is_empty() -> None:
    client = client_of(lambda _: status(404, "the server could not find the requested resource"))
    cache = Reflector(client, resources.SCALED_OBJECTS, lambda raw: raw, optional=True)
    task = asyncio.create_task(cache.run())
    async with asyncio.timeout(1):
        await cache.synced.wait()
    task.cancel()
    assert cache.items == {}


class LeaseServer:
    """One Lease with resourceVersions; `down` answers 503."""

    def __init__(self) -> None:
        self.stored: dict[str, object] | None = None
        self.version = 0
        self.down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            return status(503, "down")
        if request.method == "GET":
            return httpx.Response(200, json=self.stored) if self.stored else status(404, "none")
        document = json.loads(request.content)
        expected = str(self.version) if self.stored else None
        if document["metadata"].get("resourceVersion") != expected:
            return status(409, "moved on")
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.stored = document
        return httpx.Response(200, json=document)


class Clock:
    """A monotonic clock of the test's own."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def candidate(server: LeaseServer, who: str, clock: Clock) -> lease.LeaderLease:
    timing = lease.Timing(duration_s=15, renew_s=0.01, margin_s=5)
    return lease.LeaderLease(client_of(server), "ns", "lead", who, timing=timing, now_s=clock)


async def test_one_leads_and_the_other_waits_for_the_whole_duration() -> None:
    server, clock = LeaseServer(), Clock()
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.05)
    clock.now_s += 14.9
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert not first.is_leader, "the leader gives up before anybody may take over"
    clock.now_s += 0.2
    await asyncio.wait_for(waiting, 1)
    assert second.is_leader
    assert (first.epoch, second.epoch) == (0, 1)


async def test_a_release_hands_over_at_once() -> None:
    server, clock = LeaseServer(), Clock()
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    await first.release()
    await asyncio.wait_for(second.acquire(), 1)
    assert second.epoch == 1


async def test_a_short_outage_is_survived_and_a_long_one_is_not() -> None:
    server, clock = LeaseServer(), Clock()
    leader = candidate(server, "first", clock)
    await leader.acquire()
    server.down = True
    keeping = asyncio.create_task(leader.keep())
    clock.now_s += 9
    await asyncio.sleep(0.05)
    assert leader.is_leader
    clock.now_s += 2
    await asyncio.wait_for(keeping, 1)
    assert not leader.is_leader


def kubeconfig(path: Path, user: dict[str, object]) -> Path:
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api:6443/"}}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    found = config.load(kubeconfig(tmp_path, {"token": "secret"}))
    assert (found.url, found.bearer()) == ("https://api:6443", "secret")


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    found = config.load(kubeconfig(tmp_path, {"tokenFile": "token"}))
    (tmp_path / "token").write_text("one\n")
    assert found.bearer() == "one"
    (tmp_path / "token").write_text("two\n")
    assert found.bearer() == "two"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no mapping at the top"),
        ("{", "not a readable kubeconfig"),
        ("current-context: nowhere", "no entry 'nowhere' under contexts"),
    ],
    ids=["a list", "broken YAML", "a context that is not there"],
)
def test_a_wrong_kubeconfig_is_one_clear_error(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(errors.Malformed, match=says):
        config.load(tmp_path / "kubeconfig")


def test_an_exec_plugin_says_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(errors.Malformed, match="use token, tokenFile or a client certificate"):
        config.load(kubeconfig(tmp_path, {"exec": {"command": "aws"}}))


def test_outside_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.Malformed, match="--kubeconfig"):
        config.load(None)
