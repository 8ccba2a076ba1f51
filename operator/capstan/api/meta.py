"""What every resource of ours has: object metadata, label selectors, conditions, names and printer columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from capstan.api import fields
from capstan.api.schema import Spec, rule

GROUP = "capstan.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAP_BY_TYPE: dict[str, object] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
SET: dict[str, object] = {"x-kubernetes-list-type": "set"}


def keyed_by(*keys: str) -> dict[str, object]:
    """Return the schema keys of a list whose items are told apart by `keys`; the API server refuses a second one."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Metadata(BaseModel):
    """The part of metav1.ObjectMeta that we read; everything else in it is the API server's business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: fields.Name
    namespace: fields.Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int = 0


class Truth(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Spec):
    """metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    status: Truth
    observed_generation: fields.Count | None = None
    last_transition_time: AwareDatetime
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32768)]


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32, json_schema_extra=dict(MAP_BY_TYPE))]


class Operator(StrEnum):
    """How a label expression compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelExpression(Spec):
    """One requirement on a label."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    operator: Operator
    values: Annotated[tuple[fields.LabelValue, ...], Field(max_length=64)] = ()

    @rule(
        cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        field="values",
        fix="In and NotIn need at least one value, Exists and DoesNotExist take none; add values or change operator",
    )
    def _values_fit(self) -> bool:
        return (self.operator in (Operator.IN, Operator.NOT_IN)) == bool(self.values)


class LabelSelector(Spec):
    """metav1.LabelSelector that selects something: for us a selector grants, and a forgotten one must not."""

    match_labels: fields.Labels = Field(default_factory=dict)
    match_expressions: Annotated[tuple[LabelExpression, ...], Field(max_length=16)] = ()

    @rule(
        cel="(has(self.matchLabels) && size(self.matchLabels) > 0) || "
        "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        field="matchLabels",
        fix="a selector without labels and expressions selects nothing; add a label, or leave the selector out",
    )
    def _selects(self) -> bool:
        return bool(self.match_labels or self.match_expressions)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether an object with these labels is selected."""
        equal = all(labels.get(key) == value for key, value in self.match_labels.items())
        return equal and all(_met(expression, labels) for expression in self.match_expressions)


def _met(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    found = labels.get(expression.key)
    match expression.operator:
        case Operator.IN:
            return found in expression.values
        case Operator.NOT_IN:
            return found not in expression.values
        case Operator.EXISTS:
            return found is not None
        case Operator.DOES_NOT_EXIST:
            return found is None


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get`; `wide` shows it with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


AGE = Column("AGE", ".metadata.creationTimestamp", "date")


class Scope(StrEnum):
    """Whether an object lives in a namespace."""

    NAMESPACED = "Namespaced"
    CLUSTER = "Cluster"


@dataclass(frozen=True, slots=True)
class Names:
    """What the API server and kubectl call a kind."""

    kind: str
    plural: str
    short: str
    scope: Scope


class Resource(Spec):
    """One object of ours. A subclass adds `kind`, `spec` and, where somebody writes it, `status`."""

    NAMES: ClassVar[Names]
    COLUMNS: ClassVar[tuple[Column, ...]]

    api_version: Literal["capstan.dev/v1alpha1"]
    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """Return `namespace/name`, or the bare name of a cluster-scoped object."""
        at = self.metadata
        namespaced = self.NAMES.scope is Scope.NAMESPACED
        return f"{at.namespace or 'default'}/{at.name}" if namespaced else at.name

    def manifest(self) -> dict[str, object]:
        """Return the object as the API server has it; what is left out stays out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
