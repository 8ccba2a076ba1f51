"""The schema that the API server gets: structural, bounded, current, and saying the same as the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from click.testing import CliRunner
from pydantic import Field

from capstan.api import crdgen, meta, v1alpha1
from capstan.api.crdgen import Schema
from capstan.api.meta import Resource
from capstan.api.schema import Spec
from capstan.app import crds

KINDS = [pytest.param(kind, id=kind.NAMES.short) for kind in v1alpha1.KINDS]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema below one, with its path."""
    yield path, schema
    properties = schema.get("properties")
    for name, below in (properties if isinstance(properties, dict) else {}).items():
        assert isinstance(below, dict)
        yield from nodes(below, f"{path}.{name}")
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        below = schema.get(keyword)
        if isinstance(below, dict):
            yield from nodes(below, path + mark)


@pytest.mark.parametrize("kind", KINDS)
def test_only_keywords_of_a_structural_schema_are_left(kind: type[Resource]) -> None:
    for path, node in nodes(crdgen.schema(kind)):
        assert set(node) <= crdgen.KEPT, path
        assert isinstance(node.get("type"), str), f"{path} has no single type"
        assert node.get("additionalProperties") is not False, path


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_bounded(kind: type[Resource]) -> None:
    """The API server refuses rules whose worst case it cannot bound; users' memory is bounded by the same limits."""
    for path, node in nodes(crdgen.schema(kind)):
        match node["type"]:
            case "string":
                bounded = {"maxLength", "enum", "format"} & set(node) or path in {".apiVersion", ".kind"}
            case "array":
                bounded = "maxItems" in node
            case "object":
                bounded = {"properties", "maxProperties"} & set(node) or path == ".metadata"
            case _:
                bounded = True
        assert bounded, f"{path} of {kind.__name__} has no bound"


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_a_float(kind: type[Resource]) -> None:
    assert [path for path, node in nodes(crdgen.schema(kind)) if node["type"] == "number"] == []


def test_conditions_are_told_apart_by_type() -> None:
    for kind in (v1alpha1.ServingPolicy, v1alpha1.PowerDomain):
        found = dict(nodes(crdgen.schema(kind)))[".status.conditions"]
        assert found["x-kubernetes-list-type"] == "map"
        assert found["x-kubernetes-list-map-keys"] == ["type"]


def test_an_optional_field_is_its_type_and_not_nullable() -> None:
    field = dict(nodes(crdgen.schema(v1alpha1.ServingPolicy)))[".spec.powerBudgetWatts"]
    assert field["type"] == "integer"
    assert field["minimum"] == 1
    assert "nullable" not in field
    assert "default" not in field


def test_every_rule_of_a_model_is_in_its_schema() -> None:
    """A rule that only files know would let kubectl accept what the operator refuses."""
    schema = dict(nodes(crdgen.schema(v1alpha1.ServingPolicy)))
    validations = schema[".spec.bounds"]["x-kubernetes-validations"]
    assert isinstance(validations, list)
    messages = [each["message"] for each in validations if isinstance(each, dict)]
    assert messages == [rule.message for rule in type_of_bounds().rules()]
    assert len(messages) == 5


def type_of_bounds() -> type[Spec]:
    from capstan.api.servingpolicy import Bounds

    return Bounds


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_are_the_contracts(kind: type[Resource]) -> None:
    spec = crdgen.definition(kind)["spec"]
    assert isinstance(spec, dict)
    assert spec["group"] == "capstan.dev"
    names = spec["names"]
    assert isinstance(names, dict)
    assert names["categories"] == ["capstan"]
    short = {"ServingPolicy": "svp", "PowerDomain": "pwd", "ServingProfile": "svprof", "NodeCap": "ncap"}
    short["PowerLedger"] = "pled"
    assert names["shortNames"] == [short[kind.__name__]]


def test_the_columns_hold_a_reason() -> None:
    for kind in (v1alpha1.ServingPolicy, v1alpha1.PowerDomain):
        assert "REASON" in {column.name for column in kind.COLUMNS if not column.wide}


def test_the_columns_point_at_fields_that_exist() -> None:
    for kind in v1alpha1.KINDS:
        paths = {path for path, _ in nodes(crdgen.schema(kind))}
        for column in kind.COLUMNS:
            plain = column.path.partition("[")[0]
            assert plain in paths or plain == ".metadata.creationTimestamp", f"{kind.__name__} {column.name}"


def test_the_committed_files_are_current(root: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(crds.command, ["--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert {p.name: p.read_text(encoding="utf-8") for p in (root / "crds").iterdir()} == made, "run `make gen`"
    assert len(made) == 5
    for text in made.values():
        assert text.startswith("# Generated by `capstan crds`")
        assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"


def test_the_committed_reference_is_current(root: Path) -> None:
    page = (root / "docs" / "reference" / "crds.md").read_text(encoding="utf-8")
    assert page.endswith(crds.reference()), "run `make gen`"
    for kind in v1alpha1.KINDS:
        for rule in kind.rules():
            assert rule.message in page


class Looping(Spec):
    """A type that holds itself."""

    below: Looping | None = None


class Union(Spec):
    """A field of two types."""

    either: int | str


class Exclusive(Spec):
    """An integer with exclusive limits."""

    inside: Annotated[int, Field(gt=0, lt=10)]


def as_kind(spec: type[Spec]) -> type[Resource]:
    """Return a resource kind around a spec."""
    names = meta.Names("Odd", "odds", "odd", meta.Scope.CLUSTER)
    body = {"__annotations__": {"spec": spec}, "NAMES": names, "COLUMNS": ()}
    return type("Odd", (Resource,), {**body, "__doc__": "An odd kind.", "__module__": __name__})


@pytest.mark.parametrize("spec", [Looping, Union])
def test_what_no_structural_schema_can_say_is_an_error_of_the_generator(spec: type[Spec]) -> None:
    with pytest.raises(crdgen.UnstructuralError):
        crdgen.schema(as_kind(spec))


def test_exclusive_limits_become_inclusive_ones() -> None:
    """The API server's schema has no numeric exclusiveMinimum: 0 < n < 10 is 1 <= n <= 9 for whole numbers."""
    field = dict(nodes(crdgen.schema(as_kind(Exclusive))))[".spec.inside"]
    assert (field["minimum"], field["maximum"]) == (1, 9)
