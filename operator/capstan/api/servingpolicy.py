"""ServingPolicy: one service, its SLO and power budget, and which knobs we may turn. Written by a tenant."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, Strict

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule
from capstan.api.servingpolicy_status import ServingPolicyStatus
from capstan.model.policy import Knob, Priority

NAME_CEL = "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$')"
NAME_CHARS = 52  # a label value and a Service name hold 63: room for `-tp64` and a pool's name later


class TrafficClass(StrEnum):
    """Request class by prompt length, then output length: Short, Medium, Long (DynamoLLM)."""

    SS = "SS"
    SM = "SM"
    SL = "SL"
    MS = "MS"
    MM = "MM"
    ML = "ML"
    LS = "LS"
    LM = "LM"
    LL = "LL"


class ClassLimits(Spec):
    """Limits of one request class; a limit left out is the policy's own."""

    name: TrafficClass
    ttft_milliseconds: fields.Milliseconds | None = None
    tpot_milliseconds: fields.Milliseconds | None = None


class Slo(Spec):
    """Limits that `percentile` of requests must keep: both, or the request is bad."""

    ttft_milliseconds: fields.Milliseconds
    """Time to first token."""
    tpot_milliseconds: fields.Milliseconds
    """A request's mean time per output token after the first."""
    tbt_milliseconds: fields.Milliseconds | None = None
    """Longest gap between two tokens of a request. Not held by this version: a policy that sets it is refused."""
    percentile: Annotated[int, Strict(), Field(ge=50, le=99)] = 99
    """Share of requests, in percent, that must keep the limits."""
    classes: Annotated[tuple[ClassLimits, ...], Field(max_length=9, json_schema_extra=meta.keyed_by("name"))] = ()
    """Limits per request class. Not held by this version: a policy that sets them is refused."""


class Bounds(Spec):
    """What no plan leaves."""

    min_replicas: fields.Replicas = 1
    """Ready replicas never go below this through us."""
    max_replicas: fields.Replicas
    max_gpus: Annotated[int | None, Strict(), Field(alias="maxGPUs", ge=1, le=100_000)] = None
    """GPUs of all replicas together; left out: only maxReplicas binds."""
    tensor_parallel: Annotated[tuple[fields.TensorParallel, ...], Field(min_length=1, max_length=7)]
    """Tensor-parallel degrees that a plan may use, ascending powers of two."""
    min_clock_megahertz: fields.Megahertz | None = None
    """Lowest SM clock cap that a plan may set; left out: the profile's lowest."""

    @rule(
        cel="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
        field="minReplicas",
        fix="must not be above maxReplicas; lower minReplicas or raise maxReplicas",
    )
    def _order(self) -> bool:
        return self.min_replicas <= self.max_replicas

    @rule(
        cel="self.tensorParallel.all(t, t in [1, 2, 4, 8, 16, 32, 64])",
        field="tensorParallel",
        fix="every degree must be a power of two; use values of 1, 2, 4, 8, 16, 32, 64",
    )
    def _powers(self) -> bool:
        return all(fields.is_power_of_two(t) for t in self.tensor_parallel)

    @rule(
        cel="self.tensorParallel.isSorted() && self.tensorParallel.all(t, self.tensorParallel.exists_one(u, u == t))",
        field="tensorParallel",
        fix="degrees must ascend without repeats; sort them and drop duplicates",
    )
    def _ascending(self) -> bool:
        return list(self.tensor_parallel) == sorted(set(self.tensor_parallel))

    @rule(
        cel="!has(self.maxGPUs) || self.maxGPUs >= self.tensorParallel.min()",
        field="maxGPUs",
        fix="must hold one replica of the smallest tensorParallel; raise maxGPUs or allow a smaller degree",
    )
    def _one_fits(self) -> bool:
        return self.max_gpus is None or self.max_gpus >= min(self.tensor_parallel)


class Scheme(StrEnum):
    """How requests are split over pools. Only Single is decided by this version."""

    SINGLE = "Single"
    BY_CLASS = "ByClass"
    DISAGGREGATED = "Disaggregated"


class Pools(Spec):
    """Pools of the policy."""

    scheme: Scheme = Scheme.SINGLE
    """Single: one pool for all requests. ByClass, Disaggregated: refused by this version."""


class Knobs(Spec):
    """Per knob: Act writes, Advise only plans and publishes, Off leaves it alone."""

    replicas: Knob = Knob.ADVISE
    tensor_parallel: Knob = Knob.ADVISE
    clock: Knob = Knob.ADVISE


class Container(Spec):
    """A container of the template; all other fields are Kubernetes' own."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class PodSpec(Spec):
    """A pod spec; checked by a dry-run apply of the Deployment, not here."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    containers: Annotated[
        tuple[Container, ...], Field(min_length=1, max_length=32, json_schema_extra=meta.keyed_by("name"))
    ]


class TemplateMetadata(Spec):
    """Labels and annotations of the pods; ours are added."""

    labels: fields.Labels = Field(default_factory=dict)
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=16_384)]], Field(max_length=64)] = Field(
        default_factory=dict
    )


class Template(Spec):
    """A pod template."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodSpec


class Engine(Spec):
    """A template of ours to serve with."""

    container: Annotated[str | None, Field(min_length=1, max_length=63)] = None
    """The container that runs the engine; left out: the first."""
    template: Template
    """Pass --tensor-parallel-size=$(CAPSTAN_TENSOR_PARALLEL) to the engine; we set the variable and nvidia.com/gpu."""

    @rule(
        cel="!has(self.container) || self.template.spec.containers.exists(c, c.name == self.container)",
        field="container",
        fix="no container of template.spec.containers has this name; use one of theirs, or leave it out for the first",
    )
    def _container_exists(self) -> bool:
        return self.container is None or self.container in {c.name for c in self.template.spec.containers}


class ScaleTarget(Spec):
    """A workload in the policy's namespace, as in a HorizontalPodAutoscaler."""

    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    name: fields.Name


class Target(Spec):
    """A workload that exists, and its tensor-parallel degree."""

    scale_target_ref: ScaleTarget
    tensor_parallel: fields.TensorParallel


class ServingPolicySpec(Spec):
    """One service to keep inside its SLO and its watts."""

    model: fields.Text
    """The LLM, by the name that its ServingProfile lists."""
    served_model_name: fields.Text | None = None
    """vLLM's model_name label; left out: the model."""
    profile_names: Annotated[tuple[fields.Name, ...], Field(max_length=8, json_schema_extra=dict(meta.SET))] = ()
    """ServingProfiles to use, one per degree; left out: matched by model, GPU and degree."""
    slo: Slo
    priority: Priority = Priority.LOW
    """High only where a PowerDomain's highPriorityNamespaces admits this namespace; else Low, PriorityGranted=False."""
    power_budget_watts: fields.Watts | None = None
    """All GPUs of this policy together; left out: only the domains bind."""
    bounds: Bounds
    pools: Pools = Pools()
    knobs: Knobs = Knobs()
    engine: Engine | None = None
    """Serve with a template of ours; exactly one of engine and targets."""
    targets: Annotated[tuple[Target, ...], Field(max_length=7, json_schema_extra=meta.keyed_by("tensorParallel"))] = ()
    """Serve with workloads that exist, one per degree; exactly one of engine and targets."""
    paused: fields.Flag = False
    """Hold everything as it is."""

    @rule(
        cel="has(self.engine) != (has(self.targets) && size(self.targets) > 0)",
        field="engine",
        fix="exactly one of engine and targets says how to serve; set one and remove the other",
    )
    def _engine_xor_targets(self) -> bool:
        return (self.engine is not None) != bool(self.targets)

    @rule(
        cel="!has(self.targets) || self.targets.all(t, t.tensorParallel in self.bounds.tensorParallel)",
        field="targets",
        fix="a target's tensorParallel is not in bounds.tensorParallel; add it there or correct the target",
    )
    def _targets_within_bounds(self) -> bool:
        return all(t.tensor_parallel in self.bounds.tensor_parallel for t in self.targets)

    @rule(
        cel="!has(self.targets) || self.targets.all(t, "
        "self.targets.exists_one(u, u.scaleTargetRef.name == t.scaleTargetRef.name))",
        field="targets",
        fix="two targets name the same workload; list each workload once",
    )
    def _targets_differ(self) -> bool:
        return len({t.scale_target_ref.name for t in self.targets}) == len(self.targets)


class ServingPolicy(meta.Resource):
    """A service, its latency objective and its power budget; Capstan plans replicas, parallelism and clocks for it."""

    NAMES: ClassVar = meta.Names("ServingPolicy", "servingpolicies", "svp", meta.Scope.NAMESPACED)
    COLUMNS: ClassVar = (
        meta.Column("MODEL", ".spec.model"),
        meta.Column("PLAN", ".status.plan.summary"),
        meta.Column("SLO", '.status.conditions[?(@.type=="SLOMet")].reason'),
        meta.Column("W", ".status.observed.powerWatts", "integer"),
        meta.Column("MILLIJ/TOK", ".status.observed.millijoulesPerOutputToken", "integer"),
        meta.Column("MODE", ".spec.knobs.replicas"),
        meta.Column("REASON", ".status.plan.replicasReason"),
        meta.Column("CLOCK-REASON", ".status.plan.clockReason", wide=True),
        meta.Column("TTFT", ".status.observed.ttftMilliseconds", "integer", wide=True),
        meta.Column("TPOT", ".status.observed.tpotMilliseconds", "integer", wide=True),
        meta.Column("READY", '.status.conditions[?(@.type=="Ready")].status', wide=True),
        meta.AGE,
    )

    kind: Literal["ServingPolicy"]
    spec: ServingPolicySpec
    status: ServingPolicyStatus | None = None

    @rule(
        cel=NAME_CEL,
        field="metadata.name",
        fix=f"pods and Services carry this name; use at most {NAME_CHARS} of a-z, 0-9 and -, starting with a letter",
    )
    def _name_fits_a_label(self) -> bool:
        name = self.metadata.name
        return len(name) <= NAME_CHARS and name[0].isalpha() and "." not in name
