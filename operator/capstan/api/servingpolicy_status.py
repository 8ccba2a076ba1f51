"""The status of a ServingPolicy: plan, what is in force, figures, the last decisions. `serving` writes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from capstan.api import fields, meta
from capstan.api.schema import Spec

MAX_ENTRIES = 128  # 16 classes with a pool each, in up to 7 degrees, are 112

ClassName = Annotated[str, Field(min_length=2, max_length=2)]


class PoolStatus(Spec):
    """One pool of a plan, or where it mixes degrees one of them."""

    name: fields.Text
    classes: Annotated[tuple[ClassName, ...], Field(max_length=16)] = ()
    """Request classes that it serves, such as SL: a short prompt and a long answer; left out: all of them."""
    tensor_parallel: fields.TensorParallel
    replicas: fields.Count
    clock_megahertz: fields.Megahertz | None = None


class PlanStatus(Spec):
    """What was decided, and why."""

    summary: fields.Sentence
    """The plan in a word, such as 3xtp4@1410MHz."""
    replicas_reason: fields.Text | None = None
    clock_reason: fields.Text | None = None
    tensor_parallel_reason: fields.Text | None = None
    pools: Annotated[tuple[PoolStatus, ...], Field(max_length=MAX_ENTRIES)] = ()
    shed_percent: fields.Percent | None = None
    """Share of requests to answer with 429 while a PowerDomain caps its GPUs; left out: none. Advice to a gateway."""


class AppliedStatus(Spec):
    """What is in force."""

    summary: fields.Sentence
    pools: Annotated[tuple[PoolStatus, ...], Field(max_length=MAX_ENTRIES)] = ()


class EffectStatus(Spec):
    """Watts, energy and latency; a figure left out is unknown."""

    power_watts: fields.Measured | None = None
    millijoules_per_output_token: fields.Measured | None = None
    ttft_milliseconds: fields.Measured | None = None
    tpot_milliseconds: fields.Measured | None = None


class AdviceStatus(Spec):
    """What the knobs that only advise would make of it; nobody acts on it but you."""

    summary: fields.Sentence
    """The advice in a word, such as sm:3xtp4@1410MHz l:2xtp8."""
    reason: fields.Text | None = None
    pools: Annotated[tuple[PoolStatus, ...], Field(max_length=MAX_ENTRIES)] = ()
    expected: EffectStatus | None = None
    """What it should cost; beside it, status.expected is the plan's."""


class KnobName(StrEnum):
    """A knob in a status entry."""

    REPLICAS = "replicas"
    TENSOR_PARALLEL = "tensorParallel"
    CLOCK = "clock"


class DecisionStatus(Spec):
    """One change of a knob."""

    time: AwareDatetime
    knob: KnobName
    from_: Annotated[str, Field(alias="from", max_length=253)]
    to: Annotated[str, Field(max_length=253)]
    reason: fields.Text


class TargetStatus(Spec):
    """What a target was before we touched it, so that it can be given back."""

    name: fields.Name
    original_replicas: fields.Count


class ServingPolicyStatus(Spec):
    """What is so; written on transitions, by `capstan operator` only."""

    observed_generation: fields.Count | None = None
    plan: PlanStatus | None = None
    applied: AppliedStatus | None = None
    advice: AdviceStatus | None = None
    expected: EffectStatus | None = None
    observed: EffectStatus | None = None
    decisions: Annotated[tuple[DecisionStatus, ...], Field(max_length=10)] = ()
    targets: Annotated[tuple[TargetStatus, ...], Field(max_length=16, json_schema_extra=meta.keyed_by("name"))] = ()
    conditions: meta.Conditions = ()
