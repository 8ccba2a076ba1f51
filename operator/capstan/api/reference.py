"""The page docs/reference/crds.md: every field of every kind, its default, its limits and its rules, from the schema.

Who calls it: `app.crds`.
"""

from __future__ import annotations

from collections.abc import Iterator

from capstan.api import crdgen
from capstan.api.crdgen import Json, Schema
from capstan.api.meta import Column, Resource


def page(kinds: tuple[type[Resource], ...]) -> str:
    """Return the page in Markdown."""
    parts = ["# Custom resources", "", "API group `capstan.dev/v1alpha1`; `kubectl get capstan` lists them all.", ""]
    for kind in kinds:
        parts += [*_kind(kind), ""]
    return "\n".join(parts).rstrip() + "\n"


def _kind(kind: type[Resource]) -> Iterator[str]:
    names, schema = kind.NAMES, crdgen.schema(kind)
    yield f"## {names.kind}"
    yield ""
    yield f"{_text(schema.get('description'))} Short name `{names.short}`; {names.scope.value.lower()}."
    yield ""
    yield f"Columns: {', '.join(_column(c) for c in kind.COLUMNS)} (in italics with `-o wide`)."
    yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for part in ("spec", "status"):
        below = _properties(schema).get(part)
        if isinstance(below, dict):
            yield from _rows(part, below)
    yield ""
    yield "Rules, checked by the API server and by every command that reads a file:"
    yield ""
    yield from _rules("", schema)


def _column(column: Column) -> str:
    return f"*{column.name}*" if column.wide else column.name


def _rows(path: str, node: Schema) -> Iterator[str]:
    required = node.get("required")
    for name, below in _properties(node).items():
        if not isinstance(below, dict):
            continue
        needed = isinstance(required, list) and name in required
        cells = (f"`{path}.{name}`", _type(below), _default(below, needed=needed), _text(below.get("description")))
        yield f"| {' | '.join(cells)} |"
        items = below.get("items")
        yield from _rows(f"{path}.{name}[]" if isinstance(items, dict) else f"{path}.{name}", _element(below))


def _rules(path: str, node: Schema) -> Iterator[str]:
    validations = node.get("x-kubernetes-validations")
    for each in validations if isinstance(validations, list) else ():
        if isinstance(each, dict):
            yield f"- `{path or '.'}` — {_text(each['message'])}"
    for name, below in _properties(node).items():
        if isinstance(below, dict):
            mark = "[]" if "items" in below else ""
            yield from _rules(f"{path}.{name}{mark}".removeprefix("."), _element(below))


def _element(node: Schema) -> Schema:
    items = node.get("items")
    return items if isinstance(items, dict) else node


def _properties(node: Schema) -> Schema:
    found = node.get("properties")
    return found if isinstance(found, dict) else {}


def _type(node: Schema) -> str:
    if "items" in node:
        return f"list of {_type(_element(node))}, at most {node.get('maxItems')}"
    if "enum" in node:
        values = node["enum"]
        return ", ".join(f"`{v}`" for v in values) if isinstance(values, list) else ""
    kind = _text(node.get("format")) or _text(node.get("type"))
    if kind == "integer" and "minimum" in node:
        return f"integer {node['minimum']}–{node['maximum']}" if "maximum" in node else f"integer ≥ {node['minimum']}"  # noqa: RUF001 - a range, for people
    return "map" if "additionalProperties" in node else kind


def _default(node: Schema, *, needed: bool) -> str:
    if needed:
        return "required"
    value: Json = node.get("default")
    if value is None:
        return ""
    return "per field" if isinstance(value, dict) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _text(value: Json) -> str:
    """Return a text as one table cell."""
    return " ".join(value.split()).replace("|", "\\|") if isinstance(value, str) else ""
