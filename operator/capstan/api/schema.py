"""The base of every type that users write: camelCase fields, nothing unknown, and rules that are said once.

A rule is a sentence about several fields. It is written as CEL for the API server and as Python for files that are
read offline; both answer with the same text. `crdgen` prints the CEL, `Spec` runs the Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from capstan.api import errors

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between fields of one object.

    Attributes:
        cel: The rule for the API server; `self` is the object that the rule stands in. Empty in documents that
            never reach one (scenario.py).
        field: The field to look at first, as a path below the object (`thresholds.lowPercent`).
        fix: What is wanted and what to do, in one line.
        holds: The same rule on the parsed object.
    """

    cel: str
    field: str
    fix: str
    holds: Callable[..., bool]

    @property
    def message(self) -> str:
        """Return the one text that both the API server and a file reader print."""
        return f"{self.field}: {self.fix}"


def rule(*, field: str, fix: str, cel: str = "") -> Callable[[Callable[[M], bool]], Rule]:
    """Make a method the Python half of a rule: `@rule(cel=..., field=..., fix=...) def _name(self) -> bool`."""
    return lambda holds: Rule(cel, field, fix, holds)


class Spec(BaseModel):
    """Base of all types. Attribute docstrings become the descriptions in the CRD and in docs/reference/crds.md."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        ignored_types=(Rule,),
    )

    @classmethod
    def rules(cls) -> Iterator[Rule]:
        """Yield the rules of this type, its bases' first."""
        for base in reversed(cls.__mro__):
            yield from (value for value in vars(base).values() if isinstance(value, Rule))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return pydantic's JSON schema with the CEL of the rules in Kubernetes' own key."""
        schema = handler.resolve_ref_schema(handler(core))
        validations = [{"rule": r.cel, "message": r.message} for r in cls.rules() if r.cel]
        if validations:
            schema["x-kubernetes-validations"] = validations
        return schema

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        for each in self.rules():
            if not each.holds(self):
                raise PydanticCustomError(errors.RULE, "{field}: {fix}", {"field": each.field, "fix": each.fix})
        return self
