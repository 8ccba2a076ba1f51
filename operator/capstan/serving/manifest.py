"""Typed reading of raw Kubernetes JSON, and the content hash of a document that we would write.

Who calls it: `cluster`, `observe`, `objects`, `actuate`. A wrong type reads like an absent field: the API server
has validated what matters, and one odd object must not stop a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from capstan.journal import codec

Manifest = Mapping[str, object]

EMPTY: Manifest = {}


def mapping(value: object, *path: str) -> Manifest:
    """Return the mapping at `path`, empty where there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else EMPTY


def items(value: object, *path: str) -> tuple[Manifest, ...]:
    """Return the mappings of the list at `path`, empty where there is none."""
    found = mapping(value, *path[:-1]).get(path[-1])
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ()
    return tuple(item for item in found if isinstance(item, Mapping))


def text(value: object, *path: str) -> str:
    """Return the string at `path`, empty where there is none."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def number(value: object, *path: str) -> int | None:
    """Return the integer at `path`, or None."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def strings(value: object, *path: str) -> dict[str, str]:
    """Return the string entries of the mapping at `path`."""
    return {k: v for k, v in mapping(value, *path).items() if isinstance(v, str)}


def time_s(value: object, *path: str) -> float | None:
    """Return the RFC 3339 time at `path` in seconds since the epoch, or None."""
    found = text(value, *path)
    if not found:
        return None
    try:
        return datetime.fromisoformat(found).timestamp()
    except ValueError:
        return None


def key(value: object) -> str:
    """Return `namespace/name`, or the bare name of a cluster-scoped object."""
    namespace, name = text(value, "metadata", "namespace"), text(value, "metadata", "name")
    return f"{namespace}/{name}" if namespace else name


def matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Return whether a LabelSelector selects `labels`; an empty or absent selector selects nothing.

    Nothing, not everything: for us a selector grants something (priority, membership of a domain), and a forgotten
    one must not grant it to all.
    """
    wanted, expressions = strings(selector, "matchLabels"), items(selector, "matchExpressions")
    if not wanted and not expressions:
        return False
    return all(labels.get(k) == v for k, v in wanted.items()) and all(_holds(e, labels) for e in expressions)


def _holds(expression: Manifest, labels: Mapping[str, str]) -> bool:
    values = expression.get("values")
    allowed = values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    value = labels.get(text(expression, "key"))
    match text(expression, "operator"):
        case "In":
            return value in allowed
        case "NotIn":
            return value not in allowed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def content_hash(document: Manifest) -> str:
    """Return 16 hexadecimal digits that change when the document does; key order does not matter."""
    return codec.content_hash(document)
