"""Invalid objects as the real API server sees them, with strict field validation, as `kubectl apply` asks for."""

from __future__ import annotations

import httpx
import pytest

from support import api
from support.rig import ApiServer


def create(server: ApiServer, manifest: api.Manifest, namespace: str = "default") -> httpx.Response:
    """Ask for an object without keeping it."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    if manifest["kind"] == "ServingPolicy":
        metadata["namespace"] = namespace
    path = api.PLURALS[str(manifest["kind"])].format(namespace=namespace)
    return server.control_plane.client.post(
        f"/apis/capstan.dev/v1alpha1/{path}",
        params={"fieldValidation": "Strict", "dryRun": "All"},
        json=manifest,
    )


@pytest.mark.parametrize("case", api.INVALID, ids=lambda case: case.why)
def test_the_api_server_names_the_field_and_the_fix(api_server: ApiServer, case: api.Invalid) -> None:
    answer = create(api_server, case.manifest())
    assert answer.status_code in {400, 422}, answer.text
    message = answer.json()["message"]
    assert case.field in message
    assert case.fix in message


@pytest.mark.parametrize("base", ["policy", "targets", "domain", "profile", "cap", "ledger"])
def test_what_the_table_changes_is_accepted_before(api_server: ApiServer, base: str) -> None:
    answer = create(api_server, api.Invalid("unchanged", base, {}, "").manifest())
    assert answer.is_success, answer.text
