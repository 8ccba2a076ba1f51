"""A measured value and how far to trust it: Fresh, Stale or Missing; never 0, NaN or -1 for "no data"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from capstan.model import reasons

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """A value young enough to act on."""

    value: T
    age_s: float


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """A value too old to act on, kept so that status can show it with its age."""

    value: T
    age_s: float


@dataclass(frozen=True, slots=True)
class Missing:
    """No value, and why."""

    reason: reasons.Reason


Sample = Fresh[T] | Stale[T] | Missing


def graded(value: T, age_s: float, *, limit_s: float) -> Fresh[T] | Stale[T]:
    """Return `value` as Fresh up to `limit_s` of age, else as Stale."""
    return Fresh(value, age_s) if age_s <= limit_s else Stale(value, age_s)
