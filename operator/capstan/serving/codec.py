"""Dataclasses of the core to JSON and back, by their type hints, so that a recorded cycle can be decided again.

Who calls it: `recorder`, and whoever verifies a recording. A float survives exactly (JSON prints the shortest form
that reads back equal); a union of records is tagged with the record's name; NaN and infinity are refused.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

TAG = "$"  # the record's name, where the declared type leaves a choice


class Unreadable(ValueError):  # noqa: N818 - as `Malformed` in the adapters, the word says it
    """A value that cannot be recorded, or a line that no recorder of ours wrote; the message says where."""


def encode(value: object) -> Json:
    """Return the JSON form of a value of the core.

    Raises:
        Unreadable: A type that the core does not use, or a number that JSON has no word for.
    """
    match value:
        case enum.Enum():
            return encode(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise Unreadable(f"{value} has no place in a record: the core says Missing")
            return value
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
        return record(raw)
    return _scalar(record, raw, at)


def _scalar(kind: object, raw: Json, at: str) -> object:
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return raw  # 5 and 5.0 are equal, and whoever wrote 5 compares equal to it
    if isinstance(kind, type) and isinstance(raw, kind):
        return raw
    raise Unreadable(f"{at}: {raw!r} is not a {kind}")


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
    hints = typing.get_type_hints(record)
    parameters = getattr(record, "__parameters__", ())
    bound = dict(zip(parameters, args, strict=False))
    names = [f.name for f in dataclasses.fields(record)]
    unknown = set(raw) - {*names, TAG}
    if unknown:
        raise Unreadable(f"{at}: unknown field {sorted(unknown)[0]}")
    given = {n: _decoded(bound.get(hints[n], hints[n]), raw[n], f"{at}.{n}") for n in names if n in raw}
    return record(**given)
