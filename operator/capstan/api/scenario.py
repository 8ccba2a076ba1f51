"""What a scenario file holds beside our own kinds: the machines, and the run.

Who calls it: `manifests`, for replay and the rig, which read the same file
(docs/designs/20261121-the-house.md, Scenario). These documents never reach an API server.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from capstan.api import errors, fields, meta
from capstan.api.events import Event, PolicyKey, RateBurst
from capstan.api.schema import Spec, rule
from capstan.api.variants import Variants
from capstan.model.policy import Objective
from capstan.model.profile import ClockResponse

MILLISECONDS_PER_SECOND = 1000
PERIODS_PATTERN = r"^[0-9]{1,5},[0-9]{1,5},[0-9]{1,5}$"
SCALE_RATE_PATTERN = r"^(auto:[1-9][0-9]{0,4}|[0-9]{1,6}([.][0-9]{1,9})?)$"
CLASSES_PATTERN = r"^(fixed|terciles|[0-9]{1,7}(,[0-9]{1,7}){0,2}/[0-9]{1,7}(,[0-9]{1,7}){0,2})$"
PREDICTOR_PATTERN = r"^(none|live|0([.][0-9]{1,6})?|1([.]0{1,6})?)$"


class Namespace(BaseModel):
    """A Kubernetes Namespace, for its labels."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["Namespace"]
    metadata: meta.Metadata

    @property
    def name(self) -> str:
        """Return the namespace's name."""
        return self.metadata.name


class NodeGroup(Spec):
    """`count` equal nodes, named `<name>-0` and on; a single one is just `<name>-0`."""

    name: fields.Name
    count: Annotated[int, Strict(), Field(ge=1, le=10_000)] = 1
    gpu_product: fields.LabelValue
    """Value of the node label nvidia.com/gpu.product."""
    gpus: Annotated[int, Strict(), Field(ge=1, le=64)] = 8
    labels: fields.Labels = Field(default_factory=dict)
    """What a PowerDomain's nodeSelector looks for."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the nodes."""
        return tuple(f"{self.name}-{i}" for i in range(self.count))


class Fleet(Spec):
    """The machines of a scenario."""

    api_version: Literal["replay.capstan.dev/v1alpha1"] = "replay.capstan.dev/v1alpha1"
    kind: Literal["Fleet"]
    name: fields.Name = "fleet"
    nodes: Annotated[tuple[NodeGroup, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [name for group in self.nodes for name in group.node_names]
        twice = next((name for name in names if names.count(name) > 1), None) if len(names) != len(set(names)) else None
        if twice:
            fix = f"two groups make a node {twice}; rename one of them"
            raise PydanticCustomError(errors.RULE, "{field}: {fix}", {"field": "nodes", "fix": fix})
        return self


class SloSet(StrEnum):
    """Which limits a replay scores by (DESIGN 7.1): the policy's own, one for all, or one per prompt length."""

    SCENARIO = "scenario"
    CHAT = "chat"
    CLASS = "class"


class Start(StrEnum):
    """What stands ready when a run begins, for every system."""

    BOUNDS = "Bounds"
    """Each policy's minReplicas, at its smallest tp that has a profile."""
    SIZED = "Sized"
    """The tp and count with the least watts that carry the trace's first ten minutes at full clock."""


class Published(StrEnum):
    """Published statistics that a synthetic trace is drawn from (replay/synth.py)."""

    CONVERSATION = "conv"
    CODE = "code"
    WEEK = "week"
    SPIKY_WEEK = "spiky-week"
    LONG_CONTEXT = "long-context"
    REASONING = "reasoning"


class History(StrEnum):
    """What came before a trace, where it is no file."""

    SYNTHETIC = "synthetic"
    """Each policy's own statistics, drawn by another seed."""


class Steady(Spec):
    """Poisson arrivals at one mean rate; both lengths of a request are those of one of the source's, drawn."""

    tokens_per_second: fields.Positive
    """Prompt and output together, on average."""
    seconds: Annotated[int, Strict(), Field(ge=1, le=60 * 86_400)]
    """How long they last."""


class Fallback(Spec):
    """A synthetic trace for where the source is not on the machine."""

    synthetic: Published
    rate_ratio: fields.Parameter = "1"
    """Arrivals as a multiple of the published ones."""


class Trace(Spec):
    """The requests of one policy."""

    policy: PolicyKey
    source: Annotated[str, Field(min_length=1, max_length=4096)]
    """A trace that we know by name (azure-2023-conversation, azure-2023-code, azure-2024-conversation), a path, or
    `synthetic:` and the name of published statistics to draw from (conv, code, week, spiky-week ...)."""
    repeat: Annotated[int, Strict(), Field(ge=1, le=1000)] = 1
    """How often the source is played, one after the other."""
    rate_ratio: fields.Parameter = "1"
    """Arrivals as a multiple of the source's; decimal string."""
    steady: Steady | None = None
    """Left out: the source's own arrivals."""
    fallback: Fallback | None = None
    """Left out: a source that is not there is an error."""

    @rule(field="steady", fix="says the rate itself, and how long; leave repeat and rateRatio at 1")
    def _steady_alone(self) -> bool:
        return self.steady is None or (self.repeat == 1 and float(self.rate_ratio) == 1)


class Run(Spec):
    """How a scenario is played, on the rig in real time or in virtual time."""

    api_version: Literal["replay.capstan.dev/v1alpha1"] = "replay.capstan.dev/v1alpha1"
    kind: Literal["Run"]
    name: fields.Name
    duration_seconds: Annotated[int, Strict(), Field(ge=1, le=60 * 86_400)] | None = None
    """Nothing that arrives later is played; left out: the whole trace."""
    drain_seconds: Annotated[int, Strict(), Field(ge=1, le=86_400)] = 60
    """How long after the last arrival unfinished requests are waited for."""
    compression: Annotated[int, Strict(), Field(ge=1, le=1000)] = 1
    """The trace's shape runs this many times faster, its rates unchanged."""
    periods: Annotated[str, Field(pattern=PERIODS_PATTERN)] = "1800,300,5"
    """Seconds between decisions: cluster, pool, instance."""
    startup_seconds: Annotated[int, Strict(), Field(ge=0, le=86_400)] = 120
    telemetry_seconds: Annotated[int, Strict(), Field(ge=1, le=3600)] = 5
    """From one scrape to the next."""
    seed: fields.Count = 1
    start: Start = Start.BOUNDS
    chunk_tokens: Annotated[int, Strict(), Field(ge=1, le=1_000_000)] | None = None
    """Token budget of an engine step (vLLM --max-num-batched-tokens); left out: the profile's."""
    max_num_seqs: Annotated[int, Strict(), Field(ge=1, le=100_000)] | None = None
    """Sequences that an engine runs at once (vLLM --max-num-seqs); left out: the profile's."""
    systems: Annotated[tuple[fields.Name, ...], Field(max_length=64)] = ()
    """What `--systems` says where it is not given."""
    history: fields.Text | None = None
    """A trace that came before, beside this file; or `synthetic`: each policy's statistics, drawn by another seed."""
    scale_rate: Annotated[str, Field(pattern=SCALE_RATE_PATTERN)] = "1"
    """Rates as a multiple of the trace's, or `auto:N`: as many as make N replicas the smallest fixed fleet."""
    scale_time: fields.Parameter = "1"
    """Arrival times are multiplied by it."""
    truth: fields.Text | None = None
    slo: SloSet = SloSet.SCENARIO
    clock_response: ClockResponse = ClockResponse.NOMINAL
    seeds: Annotated[tuple[fields.Count, ...], Field(max_length=100)] = ()
    servers: Annotated[tuple[fields.Positive, ...], Field(max_length=100)] = ()
    """Fleet sizes to play, each in a run of its own; the first node group has as many nodes as it says."""
    rate_follows_servers: fields.Flag = False
    """Rates are for the servers that the fleet lists: a fleet of half as many again has half as many requests again."""
    slice_milliseconds: Annotated[int, Strict(), Field(ge=100, le=1000)] = 100
    """Watts of power domains are means over this long."""
    slowdowns: fields.Flag = False
    """Whether a system that caps is played once more without caps, for what they cost in latency."""
    power_scale: fields.Parameter = "1"
    """Watts of the true GPUs as a multiple of the profile's."""
    classes: Annotated[str, Field(pattern=CLASSES_PATTERN)] = "fixed"
    """Edges of the request classes: `fixed` (the policy's), `terciles` (of the history, else of the trace), or
    prompt/output in tokens, such as 256,1024/100,350."""
    predictor: Annotated[str, Field(pattern=PREDICTOR_PATTERN)] = "0.81"
    """Who says how long an answer will be: right in this share of the requests, `live` (running quantiles), `none`."""
    price: fields.Text | None = None
    carbon_intensity: fields.Text | None = None
    gpu_hour_price: fields.Parameter | None = None
    """Rent of an assigned GPU in the currency of `price`; left out: 11.06 US dollars, DynamoLLM's."""
    embodied_kilograms_per_gpu: fields.Parameter | None = None
    """CO2e of making a GPU with its share of the server; left out: 876.5, an H100's."""
    gpu_lifetime_years: fields.Parameter | None = None
    """Over which that is spread; left out: 5."""
    objective: Objective | None = None
    """What plans make least: Joules, Cost or Carbon; left out: what each policy says."""
    strict: fields.Flag = False
    """As `--assert`."""
    traces: Annotated[tuple[Trace, ...], Field(min_length=1, max_length=100)]
    events: Annotated[tuple[Event, ...], Field(max_length=1000)] = ()
    variants: Annotated[tuple[Variants, ...], Field(max_length=100)] = ()
    """What a policy may be served by instead of its own model."""
    variant: fields.Name | None = None
    """Which of them serves in every policy that offers any: a name, or `cheapest`; left out: the policy's own model."""

    @property
    def periods_s(self) -> tuple[float, float, float]:
        """Return (cluster, pool, instance) in seconds."""
        cluster, pool, instance = (float(part) for part in self.periods.split(","))
        return cluster, pool, instance

    @rule(
        field="periods",
        fix="must be three numbers above 0, cluster,pool,instance, the instance period the shortest; write 1800,300,5",
    )
    def _periods_order(self) -> bool:
        cluster, pool, instance = self.periods_s
        return 0 < instance <= min(cluster, pool)

    @rule(field="sliceMilliseconds", fix="must divide a second; write 100, 200, 500 or 1000")
    def _whole_slices(self) -> bool:
        return MILLISECONDS_PER_SECOND % self.slice_milliseconds == 0

    @rule(field="events", fix="an event's atSeconds is not before durationSeconds; move it or run longer")
    def _events_within(self) -> bool:
        end = self.duration_seconds
        return end is None or all(event.at_seconds < end for event in self.events)

    @rule(field="events", fix="a RateBurst names a policy that has no trace; correct it, or give the policy one")
    def _bursts_of_traces(self) -> bool:
        traced = {trace.policy for trace in self.traces}
        return all(event.policy in traced for event in self.events if isinstance(event, RateBurst))

    @rule(field="variants", fix="each names another policy that has a trace; correct one, or leave it out")
    def _variants_of_traces(self) -> bool:
        named = [each.policy for each in self.variants]
        return len(set(named)) == len(named) and set(named) <= {trace.policy for trace in self.traces}

    @rule(field="traces", fix="two traces serve the same policy; give each policy one")
    def _one_trace_each(self) -> bool:
        return len({trace.policy for trace in self.traces}) == len(self.traces)
