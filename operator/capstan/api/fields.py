"""The scalar types of the custom resources: integers with a range, names, decimal strings, bounded texts and lists.

Everything is bounded: the API server refuses a CEL rule whose worst-case cost it cannot bound. Upper limits of
physical quantities are far above any machine; they catch a wrong unit (milliwatts for watts), not a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, Strict

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"  # RFC 1123 subdomain, as Kubernetes' object names
DECIMAL_PATTERN = r"^[0-9]{1,15}([.][0-9]{1,20})?([eE][+-]?[0-9]{1,2})?$"
RATIO_PATTERN = r"^(0([.][0-9]{1,20})?|1([.]0{1,20})?)$"
LARGEST_SAFE_INTEGER = 2**53 - 1  # JSON readers keep integers exactly up to here

Flag = Annotated[bool, Strict()]
Watts = Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)]
Megahertz = Annotated[int, Strict(), Field(ge=1, le=10_000)]
Milliseconds = Annotated[int, Strict(), Field(ge=1, le=600_000)]
Percent = Annotated[int, Strict(), Field(ge=1, le=100)]
Seconds = Annotated[int, Strict(), Field(ge=1, le=86_400)]
Count = Annotated[int, Strict(), Field(ge=0, le=LARGEST_SAFE_INTEGER)]
Positive = Annotated[int, Strict(), Field(ge=1, le=LARGEST_SAFE_INTEGER)]
Replicas = Annotated[int, Strict(), Field(ge=1, le=10_000)]
TensorParallel = Annotated[int, Strict(), Field(ge=1, le=64)]
Tokens = Annotated[int, Strict(), Field(ge=1, le=10_000_000)]
Edge = Annotated[int, Strict(), Field(ge=2, le=10_000_000)]  # below 2 tokens there is nothing to tell apart
Measured = Annotated[int, Strict(), Field(ge=0, le=LARGEST_SAFE_INTEGER)]

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=253)]
Sentence = Annotated[str, Field(max_length=1024)]
Prose = Annotated[str, Field(max_length=4096)]
LabelValue = Annotated[str, Field(max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]

Number = Annotated[str, Field(max_length=40, pattern=DECIMAL_PATTERN)]
"""A number >= 0 as a decimal string: custom resources hold no floats."""

Ratio = Annotated[str, Field(max_length=24, pattern=RATIO_PATTERN)]
"""A share from 0 to 1 as a decimal string."""


def _finite(text: str) -> str:
    """Refuse what is a number and yet none that a float holds (a denormal that reads as 0 would divide by zero)."""
    value = Decimal(text)
    if value != 0 and not Decimal("1e-30") <= value <= Decimal("1e30"):
        raise ValueError("must lie between 1e-30 and 1e30, or be 0")
    return text


Parameter = Annotated[Number, AfterValidator(_finite)]
"""A fitted parameter: a decimal string that a float holds exactly enough."""


def is_power_of_two(value: int) -> bool:
    """Return whether `value` is 1, 2, 4, 8 ..."""
    return value > 0 and value & (value - 1) == 0


def ascends(values: Sequence[int]) -> bool:
    """Return whether each of `values` is above the one before."""
    return list(values) == sorted(set(values))
