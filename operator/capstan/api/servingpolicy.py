"""ServingPolicy: one service, its SLO and power budget, and which knobs we may turn. Written by a tenant."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, Strict

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule
from capstan.api.servingpolicy_status import ServingPolicyStatus
from capstan.model import classes
from capstan.model.policy import Knob, Objective, Priority

NAME_CEL = "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$')"
MAX_TIERS = 8  # prompts fall into at most four buckets; twice that is room, and bounds the cost of the CEL rules
MAX_POOLS = len(classes.LETTERS) ** 2
NAME_CHARS = 52  # a label value and a Service name hold 63: room for `-tp64` and a pool's name later


class PromptTier(Spec):
    """A tighter TTFT limit for short prompts."""

    below_tokens: fields.Tokens
    """Prompts shorter than this, and no shorter tier has them."""
    ttft_milliseconds: fields.Milliseconds


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
    prompt_tiers: Annotated[tuple[PromptTier, ...], Field(max_length=MAX_TIERS)] = ()
    """Tighter TTFT limits for short prompts, shortest first; all others keep ttftMilliseconds."""

    @rule(
        cel="!has(self.promptTiers) || (self.promptTiers.map(t, t.belowTokens).isSorted() && "
        "self.promptTiers.all(t, self.promptTiers.exists_one(u, u.belowTokens == t.belowTokens)))",
        field="promptTiers",
        fix="belowTokens must ascend without repeats; sort the tiers and drop duplicates",
    )
    def _tiers_ascend(self) -> bool:
        return fields.ascends([tier.below_tokens for tier in self.prompt_tiers])

    @rule(
        cel="!has(self.promptTiers) || (self.promptTiers.map(t, t.ttftMilliseconds).isSorted() && "
        "self.promptTiers.all(t, t.ttftMilliseconds <= self.ttftMilliseconds))",
        field="promptTiers",
        fix="a longer prompt has no tighter limit, and no tier a looser one than ttftMilliseconds; "
        "let ttftMilliseconds rise from tier to tier and stay at or below it",
    )
    def _tiers_tighten(self) -> bool:
        limits = [*(tier.ttft_milliseconds for tier in self.prompt_tiers), self.ttft_milliseconds]
        return limits == sorted(limits)


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
        return fields.ascends(self.tensor_parallel)

    @rule(
        cel="!has(self.maxGPUs) || self.maxGPUs >= self.tensorParallel.min()",
        field="maxGPUs",
        fix="must hold one replica of the smallest tensorParallel; raise maxGPUs or allow a smaller degree",
    )
    def _one_fits(self) -> bool:
        return self.max_gpus is None or self.max_gpus >= min(self.tensor_parallel)

    @rule(
        cel="!has(self.maxGPUs) || !has(self.minReplicas) || "
        "self.maxGPUs >= self.minReplicas * self.tensorParallel.min()",
        field="minReplicas",
        fix="that many replicas of the smallest tensorParallel are more than maxGPUs; lower minReplicas or raise "
        "maxGPUs",
    )
    def _least_fits(self) -> bool:
        return self.max_gpus is None or self.max_gpus >= self.min_replicas * min(self.tensor_parallel)


class Scheme(StrEnum):
    """How requests are split over pools."""

    SINGLE = "Single"
    BY_CLASS = "ByClass"
    DISAGGREGATED = "Disaggregated"


BucketEdges = Annotated[tuple[fields.Edge, ...], Field(max_length=len(classes.LETTERS) - 1)]


class Classes(Spec):
    """Where request classes begin, in tokens, lower bound included; an empty list: a single bucket."""

    prompt_tokens: BucketEdges = classes.PROMPT_EDGES
    output_tokens: BucketEdges = classes.OUTPUT_EDGES

    @rule(
        cel="!has(self.promptTokens) || (self.promptTokens.isSorted() && "
        "self.promptTokens.all(t, self.promptTokens.exists_one(u, u == t)))",
        field="promptTokens",
        fix="edges must ascend without repeats; sort them and drop duplicates",
    )
    def _prompts_ascend(self) -> bool:
        return fields.ascends(self.prompt_tokens)

    @rule(
        cel="!has(self.outputTokens) || (self.outputTokens.isSorted() && "
        "self.outputTokens.all(t, self.outputTokens.exists_one(u, u == t)))",
        field="outputTokens",
        fix="edges must ascend without repeats; sort them and drop duplicates",
    )
    def _outputs_ascend(self) -> bool:
        return fields.ascends(self.output_tokens)


class Pools(Spec):
    """Pools of the policy."""

    scheme: Scheme = Scheme.SINGLE
    """Single: one pool for all requests. ByClass: classes may have pools of their own. Disaggregated: one pool computes
    prompts, another decodes, each with its own replicas, degree and clock. More than one pool is decided in replay and
    advice on a cluster (status.advice)."""
    classes: Classes = Classes()
    """What makes a class, under ByClass."""
    count: Annotated[int | None, Strict(), Field(ge=1, le=MAX_POOLS)] = None
    """Pools, exactly, under ByClass; left out: as many as pay."""

    @rule(
        cel="!has(self.count) || (has(self.scheme) && self.scheme == 'ByClass')",
        field="count",
        fix="only ByClass has more than one pool to count; set scheme to ByClass, or remove count",
    )
    def _count_needs_classes(self) -> bool:
        return self.count is None or self.scheme is Scheme.BY_CLASS

    @rule(
        cel="!has(self.count) || !has(self.classes) || !has(self.classes.promptTokens) || "
        "!has(self.classes.outputTokens) || "
        "self.count <= (size(self.classes.promptTokens) + 1) * (size(self.classes.outputTokens) + 1)",
        field="count",
        fix="there are fewer classes than that, and a pool serves at least one; lower count or add edges",
    )
    def _a_class_for_each(self) -> bool:
        found = (len(self.classes.prompt_tokens) + 1) * (len(self.classes.output_tokens) + 1)
        return self.count is None or self.count <= found


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
    objective: Objective = Objective.JOULES
    """What a plan makes least, inside SLO and watts. Cost and Carbon need prices and carbon intensities: replay has
    them as files, `capstan operator` has none and says so in the condition SpecFollowed."""
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
        meta.Column("ADVICE", ".status.advice.summary", wide=True),
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
