"""One real control plane for the session, a fresh namespace for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import objects
from support import rig

HERE = Path(__file__).parent
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder; the hook sees the items of every folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def api_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.ApiServer]:
    """A real API server with controllers, scheduler, KWOK and our CRDs; no node and no Prometheus."""
    with rig.control_plane(tmp_path_factory.mktemp("rig")) as control_plane:
        control_plane.apply_crds(root / "crds")
        yield rig.ApiServer(
            kubeconfig=control_plane.kubeconfig,
            url=control_plane.url,
            token=control_plane.token,
            ca=control_plane.ca,
            control_plane=control_plane,
        )


@pytest.fixture
def namespace(api_server: rig.ApiServer) -> Iterator[str]:
    """A namespace of the test's own, in which pods can be created; deleted, not awaited, afterwards."""
    name = f"test-{next(_numbers)}"
    client = api_server.control_plane.client
    objects.create_namespace(client, name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    rig.eventually(lambda: objects.answers(client, account), "the namespace's default service account")
    yield name
    client.delete(f"/api/v1/namespaces/{name}")
