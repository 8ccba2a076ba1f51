"""Everything that policies/ ships is accepted by the real API server, strictly, and comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support import api
from support.rig import ApiServer

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServingPolicy": "/apis/capstan.dev/v1alpha1/namespaces/{namespace}/servingpolicies",
    "PowerDomain": "/apis/capstan.dev/v1alpha1/powerdomains",
    "ServingProfile": "/apis/capstan.dev/v1alpha1/servingprofiles",
}
FILES_ONLY = {"scenarios", "systems"}  # folders of documents that no API server knows
FILES = sorted(p for p in api.POLICIES.rglob("*.yaml") if FILES_ONLY.isdisjoint(p.parts))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_object_is_accepted_strictly(api_server: ApiServer, namespace: str, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        in_namespace = manifest["kind"] == "ServingPolicy"
        if in_namespace:
            manifest["metadata"]["namespace"] = namespace
        at = PATHS[manifest["kind"]].format(namespace=namespace)
        answer = api_server.control_plane.client.patch(
            f"{at}/{manifest['metadata']['name']}",
            params={"fieldValidation": "Strict", "fieldManager": "test-samples", "dryRun": "All"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            json=manifest,
        )
        assert answer.is_success, answer.text
        if "spec" in manifest:
            assert contained(manifest["spec"], answer.json()["spec"]), "a field of the sample was pruned"


def contained(part: object, whole: object) -> bool:
    """Return whether everything in `part` is in `whole`, which may hold defaults besides."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and contained(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(contained(a, b) for a, b in zip(part, whole, strict=True))
    return part == whole


def test_there_are_samples_to_look_at() -> None:
    assert {path.stem for path in FILES} >= {
        "serving-chat",
        "serving-batch",
        "serving-classes",
        "serving-targets",
        "power-rack",
    }
    assert sum("profiles" in path.parts for path in FILES) >= 3
