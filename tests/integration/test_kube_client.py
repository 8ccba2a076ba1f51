"""Our client and cache against a real API server: what no script can promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from capstan.adapters import errors
from capstan.adapters.kube import client as kube_client
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.client import KubeClient, Listing, Scope
from capstan.adapters.kube.reflector import Reflector
from capstan.adapters.kube.resources import Resource
from capstan.adapters.kube.wire import Manifest
from capstan.app.power.ledgers import Ledgers
from capstan.power import ports
from capstan.powercap.ledger import Entry, Ledger
from support.rig import ApiServer

SERVICE = "v1"
PAUSE = {"containers": [{"name": "engine", "image": "registry.example/engine:1"}]}


@pytest_asyncio.fixture
async def client(api_server: ApiServer) -> AsyncIterator[KubeClient]:
    made = KubeClient(config.load(api_server.kubeconfig), component="test")
    yield made
    await made.close()


def service(namespace: str, name: str, **annotations: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name, "labels": {"t": "1"}, "annotations": annotations},
        "spec": {"ports": [{"port": 8000}]},
    }


def deployment(namespace: str, **spec: object) -> Manifest:
    """A Deployment that says nothing of its replicas, as ours never do."""
    labels = {"app": "x"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "x"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": PAUSE},
            "paused": True,  # no ReplicaSet, no pods: this is about the object
            **spec,
        },
    }


def name_of(raw: dict[str, Any]) -> str:
    return str(raw["metadata"]["name"])


def at(raw: Manifest, *path: str) -> object:
    found: Any = raw
    for step in path:
        found = found[step]
    return found


async def until(holds: Callable[[], bool], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - the cache is looked at as its user looks at it
            await asyncio.sleep(0.02)


async def test_pages_hold_everything_once(client: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "PAGE", 2)
    for number in range(5):
        await client.create(service(namespace, f"s{number}"))
    scope = Scope(namespace=namespace)
    pages = [page async for page in client.pages(resources.SERVICES, scope)]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert len({page.resource_version for page in pages}) == 1, "one moment"
    listing = await client.list(resources.SERVICES, scope)
    assert [name_of(raw) for raw in listing.items] == ["s0", "s1", "s2", "s3", "s4"]


async def test_selectors_are_the_servers_own(client: KubeClient, namespace: str) -> None:
    await client.create(service(namespace, "one"))
    none = await client.list(resources.SERVICES, Scope(namespace=namespace, labels="t=2"))
    by_field = await client.list(resources.SERVICES, Scope(namespace=namespace, fields="metadata.name=one"))
    assert (len(none.items), len(by_field.items)) == (0, 1)


async def test_a_cache_follows_what_happens_and_survives_an_odd_character(client: KubeClient, namespace: str) -> None:
    """U+0085 may stand raw in JSON: Go does not escape it, and line readers that know Unicode split there."""
    await client.create(service(namespace, "first"))
    cache = Reflector(client, resources.SERVICES, name_of, scope=Scope(namespace=namespace))
    task = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.synced.wait(), 5)
    assert set(cache.items) == {f"{namespace}/first"}
    await client.create(service(namespace, "odd", note="a\x85b\u2028c"))
    await until(lambda: f"{namespace}/odd" in cache.items)
    assert cache.age_s < 5
    task.cancel()
    await asyncio.wait([task])


async def test_a_watch_that_the_server_refuses_ends_at_once(client: KubeClient) -> None:
    with pytest.raises(errors.AdapterError):
        async for _ in client.watch(resources.NODES, "nonsense"):
            pass


async def test_a_quiet_watch_ends_by_itself_and_goes_on_without_a_new_list(
    client: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends no bookmarks for a resource of which nothing was written since it started."""
    monkeypatch.setattr(kube_client, "WATCH_S", 1)
    lists: list[Resource] = []
    pages = client.pages

    def counted(resource: Resource, scope: Scope) -> AsyncGenerator[Listing]:
        lists.append(resource)
        return pages(resource, scope)

    monkeypatch.setattr(client, "pages", counted)
    cache = Reflector(client, resources.AUTOSCALERS, name_of)
    task = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.synced.wait(), 5)
    await asyncio.sleep(3.5)
    assert cache.age_s < 2.2
    assert lists == [resources.AUTOSCALERS]
    task.cancel()
    await asyncio.wait([task])


async def test_what_the_server_does_not_know_is_not_found(client: KubeClient) -> None:
    with pytest.raises(errors.NotFound):
        await client.list(resources.SCALED_OBJECTS)
    with pytest.raises(errors.NotFound):
        await client.get(resources.NODES, "no-such-node")


async def test_a_wrong_token_is_denied(api_server: ApiServer) -> None:
    where = config.load(api_server.kubeconfig)
    stranger = KubeClient(config.Config(where.url, ca=where.ca, token="wrong"), component="test")
    with pytest.raises(errors.Denied):
        await stranger.list(resources.NODES)
    await stranger.close()


async def test_a_server_that_nobody_vouches_for_is_not_talked_to(api_server: ApiServer) -> None:
    where = config.load(api_server.kubeconfig)
    careless = KubeClient(config.Config(where.url, token="t"), component="test")
    with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await careless.list(resources.NODES)
    await careless.close()


async def test_an_apply_creates_then_changes_nothing(client: KubeClient, namespace: str) -> None:
    first = await client.apply(service(namespace, "svc"), manager="capstan-test")
    again = await client.apply(service(namespace, "svc"), manager="capstan-test")
    assert at(first, "metadata", "resourceVersion") == at(again, "metadata", "resourceVersion")


async def test_a_dry_run_leaves_nothing(client: KubeClient, namespace: str) -> None:
    await client.apply(service(namespace, "ghost"), manager="capstan-test", dry_run=True)
    with pytest.raises(errors.NotFound):
        await client.get(resources.SERVICES, "ghost", namespace)


@pytest.mark.parametrize(
    "spec",
    [{"bogus": 1}, {"strategy": {"type": "Sometimes"}}],
    ids=["an unknown field", "a wrong value"],
)
async def test_a_wrong_document_is_rejected_with_the_servers_words(
    client: KubeClient, namespace: str, spec: Manifest
) -> None:
    with pytest.raises(errors.Rejected, match=r"bogus|strategy"):
        await client.apply(deployment(namespace, **spec), manager="capstan-test")


async def test_an_apply_at_an_older_version_is_a_conflict(client: KubeClient, namespace: str) -> None:
    made = await client.apply(service(namespace, "svc"), manager="capstan-test")
    await client.merge(resources.SERVICES, "svc", {"metadata": {"labels": {"moved": "on"}}}, namespace=namespace)
    stale: dict[str, Any] = service(namespace, "svc", changed="yes")
    stale["metadata"]["resourceVersion"] = at(made, "metadata", "resourceVersion")
    with pytest.raises(errors.Conflict):
        await client.apply(stale, manager="capstan-test")


async def test_an_apply_for_an_object_that_was_replaced_by_a_namesake_is_a_conflict(
    client: KubeClient, namespace: str
) -> None:
    other: dict[str, Any] = service(namespace, "svc")
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(errors.Conflict):  # it is gone: a uid keeps an apply from creating
        await client.apply(other, manager="capstan-test")
    await client.apply(service(namespace, "svc"), manager="capstan-test")
    with pytest.raises(errors.Conflict, match="another of the same name"):
        await client.apply(other, manager="capstan-test")


async def test_replicas_go_through_scale_and_an_apply_leaves_them_alone(client: KubeClient, namespace: str) -> None:
    await client.apply(deployment(namespace), manager="capstan-test")
    async with asyncio.timeout(10):
        while True:  # its controller writes status meanwhile
            made = await client.get(resources.DEPLOYMENTS, "x", namespace)
            version = str(at(made, "metadata", "resourceVersion"))
            with suppress(errors.Conflict):
                await client.scale(resources.DEPLOYMENTS, namespace, "x", 3, resource_version=version)
                break
    with pytest.raises(errors.Conflict):
        await client.scale(resources.DEPLOYMENTS, namespace, "x", 5, resource_version=version)
    again = await client.apply(deployment(namespace, minReadySeconds=1), manager="capstan-test")
    assert at(again, "spec", "replicas") == 3


async def test_a_create_of_what_exists_is_a_conflict(client: KubeClient, namespace: str) -> None:
    await client.create(service(namespace, "svc"))
    with pytest.raises(errors.Conflict):
        await client.create(service(namespace, "svc"))


async def test_a_power_ledger_is_swapped_at_its_version_alone(client: KubeClient) -> None:
    """Two leaders that read the same ledger: one of them stores, the other one is refused and reads again."""
    ledgers = Ledgers(client)
    entry = Entry("gpu-0", ("rack-of-ledgers",), 1500.0, 1, 2000.0)
    first = await ledgers.swap("rack-of-ledgers", Ledger(1, (("rack-of-ledgers", 2000.0),), (entry,)), "")
    try:
        assert await ledgers.read("rack-of-ledgers") == first
        second = await ledgers.swap("rack-of-ledgers", Ledger(2, first.ledger.budgets_w, (entry,)), first.version)
        with pytest.raises(ports.Refused, match="modified"):
            await ledgers.swap("rack-of-ledgers", Ledger(3, (), ()), first.version)
        with pytest.raises(ports.Refused, match="exists"):
            await ledgers.swap("rack-of-ledgers", Ledger(3, (), ()), "")
        with pytest.raises(ports.Refused):
            await ledgers.drop("rack-of-ledgers", first.version)
        assert await ledgers.read("rack-of-ledgers") == second
    finally:
        await ledgers.drop("rack-of-ledgers", second.version)
    assert await ledgers.read("rack-of-ledgers") is None
