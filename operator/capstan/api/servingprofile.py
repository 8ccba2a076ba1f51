"""ServingProfile: the measured physics of one engine set-up. Written by the platform team, or by `capstan profile`.

Fitted parameters are decimal strings, parsed once in `convert`; what a data sheet or a device says is an integer.
The names follow `model/profile.py`, whose docstrings say what each parameter does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule


class Role(StrEnum):
    """What the engine does: both phases, or one of them."""

    MIXED = "Mixed"
    PREFILL = "Prefill"
    DECODE = "Decode"


class ClockResponse(StrEnum):
    """Whether time and power were measured at several clocks, or follow another GPU's shape."""

    ASSUMED = "Assumed"
    MEASURED = "Measured"


class Origin(StrEnum):
    """How a parameter came about."""

    FITTED = "Fitted"
    MEASURED = "Measured"
    DERIVED = "Derived"
    DATA_SHEET = "DataSheet"
    ASSUMED = "Assumed"


class EngineVersion(Spec):
    """The serving engine that was measured."""

    name: fields.Text
    version: fields.Text


class Clocks(Spec):
    """SM clocks of the GPU, and relative core voltage over them."""

    min_megahertz: fields.Megahertz
    max_megahertz: fields.Megahertz
    step_megahertz: fields.Megahertz
    voltage_min_ratio: fields.Ratio
    """Core voltage at and below the knee, relative to that at the maximum clock; above 0."""
    voltage_knee_ratio: fields.Ratio
    """Share of the maximum clock below which voltage no longer falls; below 1."""

    @rule(
        cel="self.minMegahertz < self.maxMegahertz",
        field="minMegahertz",
        fix="must be below maxMegahertz; correct one of them",
    )
    def _order(self) -> bool:
        return self.min_megahertz < self.max_megahertz

    @rule(
        cel="double(self.voltageMinRatio) > 0.0",
        field="voltageMinRatio",
        fix='must be above "0"; no core runs without voltage',
    )
    def _has_voltage(self) -> bool:
        return float(self.voltage_min_ratio) > 0

    @rule(
        cel="double(self.voltageKneeRatio) < 1.0",
        field="voltageKneeRatio",
        fix='must be below "1"; the knee lies under the maximum clock',
    )
    def _knee_below_maximum(self) -> bool:
        return float(self.voltage_knee_ratio) < 1


class Timing(Spec):
    """Step times at full clock, per replica (DESIGN 5)."""

    host_seconds: fields.Parameter
    """Host and framework time of a decode step."""
    weights_seconds: fields.Parameter
    """Time to stream a GPU's share of the weights once."""
    per_sequence_seconds: fields.Parameter
    """Growth of a decode step per further sequence, beyond its matrix products."""
    per_context_token_seconds: fields.Parameter
    """Growth of a decode step per token of context that the batch holds."""
    prefill_base_seconds: fields.Parameter
    """What a step with prompt tokens takes more."""
    prefill_per_token_seconds: fields.Parameter
    """Matrix products of a token where they bound the step, up to 2,048 tokens in one step."""
    prefill_per_token_long_seconds: fields.Parameter
    """The same beyond 2,048 tokens in one step."""
    prefill_min_seconds: fields.Parameter
    """No step with prompt tokens is shorter."""
    attention_per_token_squared_seconds: fields.Parameter
    """Per new prompt token and token before it."""
    decode_clock_ratio: fields.Ratio
    """Share of a decode step's GPU part that scales with the clock."""
    prefill_clock_ratio: fields.Ratio
    """Share of a prefill step that scales with the clock."""
    queue_host_seconds: fields.Parameter
    """Host time from arrival to the first step at no load."""
    bend: fields.Parameter = "4"
    """Exponent of the soft maximum of streaming and multiplying the weights."""
    stock_clock_ratio: fields.Ratio = "1"
    """Share of the maximum clock that the board held under its own limit when prefill was measured; above 0."""
    expert_weights_seconds: fields.Parameter = "0"
    """Time to stream a GPU's share of all routed experts; 0 for a dense LLM."""

    @rule(
        cel="double(self.bend) >= 1.0",
        field="bend",
        fix='must be at least "1"; a soft maximum is never below either part',
    )
    def _bends(self) -> bool:
        return float(self.bend) >= 1

    @rule(
        cel="double(self.stockClockRatio) > 0.0",
        field="stockClockRatio",
        fix='must be above "0"; use "1" where the board did not throttle',
    )
    def _runs(self) -> bool:
        return float(self.stock_clock_ratio) > 0

    @rule(
        cel="double(self.weightsSeconds) > 0.0",
        field="weightsSeconds",
        fix='must be above "0"; a decode step reads the weights',
    )
    def _decode_takes_time(self) -> bool:
        return float(self.weights_seconds) > 0


class Draw(Spec):
    """Board power of one GPU: P_s + P_m u_m + (P_d + P_c u_c^gamma + P_k u_k) x v(x)^2."""

    unloaded_watts: fields.Parameter
    """No model on the GPU."""
    loaded_idle_watts: fields.Parameter
    """Model loaded, no request."""
    static_watts: fields.Parameter
    memory_watts: fields.Parameter
    """At full memory bandwidth."""
    dynamic_watts: fields.Parameter
    """Of the core at full clock, whatever it does."""
    compute_watts: fields.Parameter
    """At full FLOP/s and full clock."""
    gamma: fields.Parameter
    """Exponent of the compute share."""
    limit_watts: fields.Watts
    """Board limit at stock settings."""
    min_limit_watts: fields.Watts
    """Lowest board limit that the device accepts."""
    context_watts: fields.Parameter = "0"
    """Further, where attention reads keys and values at full memory bandwidth."""

    @rule(
        cel="self.minLimitWatts <= self.limitWatts",
        field="minLimitWatts",
        fix="must not be above limitWatts; correct one of them",
    )
    def _order(self) -> bool:
        return self.min_limit_watts <= self.limit_watts


class Work(Spec):
    """Bytes and FLOPs per GPU of the replica, and the GPU's peaks."""

    weight_bytes: fields.Positive
    kv_bytes_per_token: fields.Positive
    flops_per_token: fields.Positive
    peak_bytes_per_second: fields.Positive
    peak_flops_per_second: fields.Positive
    expert_bytes: fields.Count = 0
    """A GPU's share of all routed experts; 0 for a dense LLM."""
    expert_share_ratio: fields.Ratio = "1"
    """Routed experts that one token meets, over all of them."""


class Span(Spec):
    """An inclusive range."""

    min: fields.Count
    max: fields.Count

    @rule(cel="self.min <= self.max", field="min", fix="must not be above max; swap them")
    def _order(self) -> bool:
        return self.min <= self.max


class ValidRange(Spec):
    """What the parameters were fitted to; outside it is ProfileOutOfRange. A range left out is not known."""

    batch: Span | None = None
    """Decoding sequences at once."""
    context_tokens: Span | None = None
    """Context of one sequence."""
    prompt_tokens: Span | None = None
    clock_megahertz: Span | None = None


class Source(Spec):
    """Where parameters come from."""

    parameters: Annotated[
        tuple[Annotated[str, Field(max_length=64, pattern=r"^[a-zA-Z]+([.][a-zA-Z]+)?$")], ...],
        Field(min_length=1, max_length=64),
    ]
    """Paths below spec, such as timing.hostSeconds."""
    origin: Origin
    source: fields.Sentence


class ServingProfileSpec(Spec):
    """One engine set-up and its physics."""

    models: Annotated[tuple[fields.Text, ...], Field(min_length=1, max_length=64, json_schema_extra=dict(meta.SET))]
    """Names under which the LLM appears in policies; fine-tunes of the same shape belong here too."""
    gpu_products: Annotated[
        tuple[fields.LabelValue, ...], Field(min_length=1, max_length=16, json_schema_extra=dict(meta.SET))
    ]
    """Values of the node label nvidia.com/gpu.product."""
    tensor_parallel: fields.TensorParallel
    engine: EngineVersion
    dtype: fields.Text
    role: Role = Role.MIXED
    clock_response: ClockResponse
    clocks: Clocks
    timing: Timing
    draw: Draw
    work: Work
    kv_tokens: fields.Positive
    """Tokens of context that the replica's KV cache holds."""
    max_num_seqs: Annotated[int, Strict(), Field(ge=1, le=65_536)]
    """vLLM's --max-num-seqs that this is valid for."""
    chunk_tokens: Annotated[int, Strict(), Field(ge=1, le=1_048_576)]
    """vLLM's --max-num-batched-tokens that this is valid for."""
    startup_seconds: fields.Seconds
    """From pod start to Ready, until it is measured: the median of a policy's own pods takes its place."""
    fit_error_ratio: fields.Parameter | None = None
    """Mean absolute relative error of the fit; left out: nothing was fitted."""
    valid_range: ValidRange = ValidRange()
    provenance: fields.Prose = ""
    sources: Annotated[tuple[Source, ...], Field(max_length=64)] = ()

    @rule(
        cel="self.tensorParallel in [1, 2, 4, 8, 16, 32, 64]",
        field="tensorParallel",
        fix="must be a power of two; use 1, 2, 4, 8, 16, 32 or 64",
    )
    def _power_of_two(self) -> bool:
        return fields.is_power_of_two(self.tensor_parallel)


class ServingProfile(meta.Resource):
    """Measured latency and power of one (model, GPU, engine and version, tensor-parallel degree, dtype, role)."""

    NAMES: ClassVar = meta.Names("ServingProfile", "servingprofiles", "svprof", meta.Scope.CLUSTER)
    COLUMNS: ClassVar = (
        meta.Column("MODEL", ".spec.models[0]"),
        meta.Column("GPU", ".spec.gpuProducts[0]"),
        meta.Column("TP", ".spec.tensorParallel", "integer"),
        meta.Column("DTYPE", ".spec.dtype"),
        meta.Column("ENGINE", ".spec.engine.version"),
        meta.Column("CLOCKS", ".spec.clockResponse"),
        meta.Column("FIT-ERROR", ".spec.fitErrorRatio"),
        meta.AGE,
    )

    kind: Literal["ServingProfile"]
    spec: ServingProfileSpec
