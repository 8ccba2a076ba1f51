"""Dataclasses of the core to JSON and back, by their type hints, so that a recorded cycle can be decided again.

Who calls it: `journal.record`, and whoever writes or reads one. A float survives exactly (JSON prints the shortest form
that reads back equal); a union of records is tagged with the record's name; NaN and infinity, for which JSON has no
word, are tagged too. Must not know: what the values mean.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

TAG = "$"  # the record's name, where the declared type leaves a choice
NOT_FINITE = "float"  # the tag of a number that JSON has no word for: {"$": "float", "value": "nan"}


class Unreadable(ValueError):  # noqa: N818 - as `Malformed` in the adapters, the word says it
    """A value that cannot be recorded, or a line that no recorder of ours wrote; the message says where."""


def encode(value: object) -> Json:
    """Return the JSON form of a value of the core.

    Raises:
        Unreadable: A type that the core does not use.
    """
    match value:
        case enum.Enum():
            return encode(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {TAG: NOT_FINITE, "value": repr(value)}
        case tuple() | list():
            return [encode(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {TAG: type(value).__name__, **fields}
    raise Unreadable(f"{type(value).__name__} cannot be recorded")


def decode(kind: type[T], raw: Json) -> T:
    """Return the value of type `kind` that `encode` wrote.

    Raises:
        Unreadable: `raw` is not one.
    """
    return typing.cast("T", _decoded(kind, raw, kind.__name__))


def decode_all(kind: type[T], raw: Json) -> tuple[T, ...]:
    """Return the values of type `kind` of a list that `encode` wrote.

    Raises:
        Unreadable: `raw` is not a list of them.
    """
    return typing.cast("tuple[T, ...]", _tuple((kind, ...), raw, kind.__name__))


def content_hash(document: object) -> str:
    """Return 16 hexadecimal digits that change when a JSON document does; key order does not matter."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _decoded(kind: object, raw: Json, at: str) -> object:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _of_union(args, raw, at)
    if origin is tuple:
        return _tuple(args, raw, at)
    record = origin or kind
    if isinstance(record, type) and dataclasses.is_dataclass(record):
        return _record(record, args, raw, at)
    if isinstance(record, type) and issubclass(record, enum.Enum):
        return _built(record, at, raw)
    return _scalar(record, raw, at)


def _scalar(kind: object, raw: Json, at: str) -> object:
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return raw  # 5 and 5.0 are equal, and whoever wrote 5 compares equal to it
    if kind is float and isinstance(raw, Mapping) and raw.get(TAG) == NOT_FINITE:
        if (word := raw.get("value")) in ("nan", "inf", "-inf"):
            return float(str(word))
        raise Unreadable(f"{at}: {word!r} is none of nan, inf, -inf")
    if isinstance(kind, type) and isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool)):
        return raw
    raise Unreadable(f"{at}: {raw!r} is not a {getattr(kind, '__name__', kind)}")


def _of_union(args: tuple[object, ...], raw: Json, at: str) -> object:
    if raw is None and type(None) in args:
        return None
    kinds = [a for a in args if a is not type(None)]
    if isinstance(raw, Mapping):
        tagged = [k for k in kinds if getattr(typing.get_origin(k) or k, "__name__", "") == raw.get(TAG)]
        kinds = tagged or kinds
    if len(kinds) != 1:
        raise Unreadable(f"{at}: {raw!r} fits none of {args}")
    return _decoded(kinds[0], raw, at)


def _tuple(args: tuple[object, ...], raw: Json, at: str) -> tuple[object, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise Unreadable(f"{at}: {raw!r} is not a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decoded(args[0], item, f"{at}[{i}]") for i, item in enumerate(raw))
    if len(args) != len(raw):
        raise Unreadable(f"{at}: {len(raw)} items instead of {len(args)}")
    return tuple(_decoded(kind, item, f"{at}[{i}]") for i, (kind, item) in enumerate(zip(args, raw, strict=True)))


def _record(record: type, args: tuple[object, ...], raw: Json, at: str) -> object:
    if not isinstance(raw, Mapping):
        raise Unreadable(f"{at}: {raw!r} is not an object")
    hints = _hints(record)
    parameters = getattr(record, "__parameters__", ())
    bound = dict(zip(parameters, args, strict=False))
    unknown = set(raw) - {*hints, TAG}
    if unknown:
        raise Unreadable(f"{at}: unknown field {sorted(unknown)[0]!r}")
    given = {n: _decoded(bound.get(hint, hint), raw[n], f"{at}.{n}") for n, hint in hints.items() if n in raw}
    return _built(record, at, **given)


@functools.cache
def _hints(record: type) -> dict[str, object]:
    """Return field name → type; resolving the hints costs more than all the rest of a line."""
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _built(kind: type, at: str, *args: object, **fields: object) -> object:
    """Return `kind(...)`; what it refuses (a missing field, a range, an unknown word) is told with its place."""
    try:
        return kind(*args, **fields)
    except (TypeError, ValueError) as problem:
        raise Unreadable(f"{at}: {problem}") from problem
