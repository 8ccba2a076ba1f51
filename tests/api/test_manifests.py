"""YAML files of manifests: what is read, and the one clear message for each way of getting it wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from capstan.api import errors, events, manifests, scenario, v1alpha1
from support import api

RUN: dict[str, object] = {
    "kind": "Run",
    "name": "demo",
    "durationSeconds": 240,
    "compression": 8,
    "periods": "30,60,5",
    "startupSeconds": 10,
    "traces": [{"policy": "llm/chat", "source": "azure-2023-conversation", "fallback": {"synthetic": "conv"}}],
    "events": [{"atSeconds": 120, "kind": "BudgetCut", "domain": "rack-7", "budgetWatts": 20000}],
}
FLEET: dict[str, object] = {
    "kind": "Fleet",
    "nodes": [{"name": "gpu", "count": 2, "gpuProduct": "NVIDIA-H100-80GB-HBM3", "gpus": 8, "labels": {"rack": "7"}}],
}

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write documents (or a raw text) to a file and return its path."""

    def write(*documents: dict[str, object] | str) -> Path:
        path = tmp_path / "scenario.yaml"
        parts = [d if isinstance(d, str) else yaml.safe_dump(d) for d in documents]
        path.write_text("---\n".join(parts), encoding="utf-8")
        return path

    return write


def test_a_scenario_is_read_in_its_order(written: Written) -> None:
    found = manifests.load(written(FLEET, api.rack(), api.chat(), RUN))
    assert [type(d).__name__ for d in found] == ["Fleet", "PowerDomain", "ServingPolicy", "Run"]
    fleet, run = found[0], found[-1]
    assert isinstance(fleet, scenario.Fleet)
    assert fleet.nodes[0].node_names == ("gpu-0", "gpu-1")
    assert isinstance(run, scenario.Run)
    assert run.periods_s == (30.0, 60.0, 5.0)
    assert run.traces[0].fallback is not None
    (cut,) = run.events
    assert isinstance(cut, events.BudgetCut)
    assert cut.budget_watts == 20_000


def test_an_empty_document_between_separators_does_not_count(written: Written) -> None:
    assert len(manifests.load(written("", api.rack(), ""))) == 1


def test_a_namespace_brings_its_labels(written: Written) -> None:
    [found] = manifests.load(written(api.sample("namespaces")))
    assert isinstance(found, scenario.Namespace)
    assert found.metadata.labels == {"capstan.dev/high-priority": "true"}


def test_times_that_yaml_parses_itself_are_times(written: Written) -> None:
    """YAML turns an unquoted timestamp into a datetime; both spellings mean the same."""
    reduction = "{from: 2026-11-21T18:00:00Z, to: '2026-11-21T20:00:00Z', budgetWatts: 30000}"
    text = yaml.safe_dump(api.rack()).replace("spec:\n", f"spec:\n  reductions: [{reduction}]\n")
    [found] = manifests.load(written(text))
    assert isinstance(found, v1alpha1.PowerDomain)
    first = found.spec.reductions[0]
    assert (first.to - first.from_).total_seconds() == 7200


@pytest.mark.parametrize(
    ("documents", "place", "fix"),
    [
        pytest.param(("",), "scenario.yaml", "holds no object", id="empty-file"),
        pytest.param(("a: 1\nkind: [",), "line 2", "correct the YAML", id="not-yaml"),
        pytest.param(("a: 1\na: 2\n",), "line 2", "a is written twice", id="key-written-twice"),
        pytest.param(("- 1\n- 2\n",), "document 1", "is no manifest", id="a-list"),
        pytest.param(({"kind": "Deployment"},), "kind", "'Deployment' is not known here", id="unknown-kind"),
        pytest.param(({"spec": {}},), "kind", "None is not known here", id="no-kind"),
        pytest.param((api.rack(), api.rack()), "document 2", "is document 1 already", id="object-twice"),
        pytest.param(({**api.rack(), "apiVersion": "capstan.dev/v1"},), "apiVersion", "v1alpha1", id="other-version"),
        pytest.param(({**RUN, "periods": "30,5"},), "document 1: periods", "pattern", id="two-periods"),
        pytest.param(({**RUN, "periods": "30,60,0"},), "periods", "three numbers above 0", id="period-of-zero"),
        pytest.param(({**RUN, "traces": []},), "traces", "at least 1", id="run-without-traces"),
        pytest.param(({**RUN, "durationSeconds": 60},), "events", "move it or run longer", id="event-after-the-end"),
        pytest.param(
            ({**RUN, "traces": [{"policy": "chat", "source": "x"}]},), "traces[0].policy", "pattern", id="no-namespace"
        ),
        pytest.param(
            ({**RUN, "traces": [{"policy": "llm/chat", "source": "x"}] * 2},), "traces", "give each", id="two-traces"
        ),
        pytest.param(({"kind": "Fleet", "nodes": []},), "nodes", "at least 1", id="fleet-of-nothing"),
        pytest.param(
            ({"kind": "Fleet", "nodes": [{"name": "a", "gpuProduct": "x"}] * 2},), "nodes", "node a-0", id="node-twice"
        ),
        pytest.param(
            ({"kind": "Fleet", "nodes": [{"name": "a"}]},),
            "nodes[0].gpuProduct",
            "is required; add it",
            id="no-product",
        ),
        pytest.param(
            (api.changed(api.chat(), {"spec.bounds.maxGPUs": 1}),), "spec.bounds.maxGPUs", "raise maxGPUs", id="a-rule"
        ),
        pytest.param(
            (api.changed(api.chat(), {"spec.slo.ttft": 1}),), "spec.slo.ttft", "correct its spelling", id="misspelled"
        ),
    ],
)
def test_a_bad_file_names_the_place_and_the_fix(
    written: Written, documents: tuple[dict[str, object] | str, ...], place: str, fix: str
) -> None:
    with pytest.raises(errors.Invalid) as caught:
        manifests.load(written(*documents))
    assert place in caught.value.field
    assert fix in caught.value.fix
    assert "scenario.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match=r"cannot be read .*; correct the path"):
        manifests.load(tmp_path / "absent.yaml")


def test_a_trace_given_by_mistake_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"a" * (manifests.MAX_FILE_BYTES + 1))
    with pytest.raises(errors.Invalid, match="larger than 4 MiB"):
        manifests.load(path)


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "packed.yaml"
    path.write_bytes(b"\x1f\x8b\x00\xff")
    with pytest.raises(errors.Invalid, match="not UTF-8"):
        manifests.load(path)
