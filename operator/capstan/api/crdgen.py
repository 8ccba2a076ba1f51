"""Pydantic's JSON schema to a structural CRD schema, and the CustomResourceDefinition around it.

Who calls it: `app.crds`. The API server's rules, each tried (facts: ecosystem 4.1): no `$ref`, no `anyOf` with null,
no `additionalProperties: false` beside properties, booleans for exclusive limits, no `const`, no unknown keywords.

An optional field is not `nullable`: the API server then drops an explicit null before it defaults, so absence has
one form and CEL's `has` is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from capstan.api import meta
from capstan.api.meta import Column, Resource

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Schema = dict[str, Json]

KEPT = frozenset(
    {
        *("type", "description", "format", "pattern", "enum", "required", "properties", "items", "default"),
        *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
        *("additionalProperties", "x-kubernetes-validations", "x-kubernetes-list-type"),
        *("x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields"),
    }
)
"""Keywords of a structural schema that we use; `title` and the like are pydantic's own and are dropped."""

FORMATS = frozenset({"date-time"})


class UnstructuralError(ValueError):
    """A model that has no structural schema: recursion, a union, or a keyword that the API server does not know."""


def definition(kind: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of one kind."""
    names = kind.NAMES
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{meta.GROUP}"},
        "spec": {
            "group": meta.GROUP,
            "scope": names.scope.value,
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.kind.lower(),
                "shortNames": [names.short],
                "categories": ["capstan"],
            },
            "versions": [_version(kind)],
        },
    }


def schema(kind: type[Resource]) -> Schema:
    """Return the structural schema of one kind.

    Raises:
        UnstructuralError: The model cannot be said in a structural schema.
    """
    raw: Schema = kind.model_json_schema(by_alias=True)
    definitions = _mapping(raw.get("$defs", {}))
    root = _structural(raw, definitions, ())
    properties = _mapping(root["properties"])
    # The API server's own; a CRD may say no more of metadata than name and generateName.
    properties["metadata"] = {"type": "object"}
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    return {**root, "required": ["spec"], "properties": properties}


def _version(kind: type[Resource]) -> Schema:
    version: Schema = {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(c) for c in kind.COLUMNS],
        "schema": {"openAPIV3Schema": schema(kind)},
    }
    if "status" in kind.model_fields:
        version["subresources"] = {"status": {}}
    return version


def _column(column: Column) -> Schema:
    printed: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**printed, "priority": 1} if column.wide else printed


def _structural(node: Schema, definitions: Schema, seen: tuple[str, ...]) -> Schema:
    """Return `node` with references inlined and every keyword in the API server's form."""
    node, seen = _resolved(node, definitions, seen)
    node, seen = _without_null(node, definitions, seen)
    node = _exclusive(node)
    if "const" in node:
        node["enum"] = [node["const"]]
    out = {key: value for key, value in node.items() if key in KEPT}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in node:
            raise UnstructuralError(f"{node.get('title', 'a field')}: {key} has no structural form; use one type")
    if out.get("format") not in FORMATS:
        out.pop("format", None)
    _clean_default(out)
    _nested(out, definitions, seen)
    return out


def _nested(out: Schema, definitions: Schema, seen: tuple[str, ...]) -> None:
    """Rewrite what lies below a node, in place."""
    if "properties" in out:
        out.pop("additionalProperties", None)
        below = _mapping(out["properties"])
        out["properties"] = {k: _structural(_mapping(v), definitions, seen) for k, v in below.items()}
    elif isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(_mapping(out["additionalProperties"]), definitions, seen)
    if "items" in out:
        out["items"] = _structural(_mapping(out["items"]), definitions, seen)


def _resolved(node: Schema, definitions: Schema, seen: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
    """Return a node with its `$ref` inlined; what the field itself says wins over what its type says."""
    node = dict(node)
    while "$ref" in node:
        name = str(node.pop("$ref")).rpartition("/")[2]
        if name in seen:
            raise UnstructuralError(f"{name} contains itself; a CRD schema cannot")
        seen = (*seen, name)
        node = {**_mapping(definitions[name]), **node}
    return node, seen


def _without_null(node: Schema, definitions: Schema, seen: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
    """Return an optional field as its type: `anyOf: [X, null]` becomes X."""
    options = node.get("anyOf")
    if not isinstance(options, list):
        return node, seen
    types = [_mapping(option) for option in options if _mapping(option).get("type") != "null"]
    if len(types) != 1:
        raise UnstructuralError(f"{node.get('title', 'a field')}: a union of types has no structural form")
    inner, seen = _resolved(types[0], definitions, seen)
    return {**inner, **{key: value for key, value in node.items() if key != "anyOf"}}, seen


def _exclusive(node: Schema) -> Schema:
    """Return numeric `exclusiveMinimum` as OpenAPI v3's pair of number and boolean; only integers are used here."""
    for keyword, limit, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        value = node.pop(keyword, None)
        if isinstance(value, int):
            node[limit] = value + step
        elif value is not None:
            raise UnstructuralError(f"{keyword} {value}: custom resources hold whole numbers")
    return node


def _clean_default(node: Schema) -> None:
    """Drop defaults that say nothing (null, empty), so that the API server writes none of them into objects."""
    if "default" in node:
        node["default"] = _bare(node["default"])
        if node["default"] in (None, [], {}, ""):
            del node["default"]


def _bare(value: Json) -> Json:
    """Return a default without the members that are themselves nothing."""
    if not isinstance(value, dict):
        return value
    return {k: bare for k, v in value.items() if (bare := _bare(v)) not in (None, [], {}, "")}


def _mapping(value: Json) -> Schema:
    if not isinstance(value, Mapping):
        raise UnstructuralError(f"{value!r} is no schema")
    return dict(value)
