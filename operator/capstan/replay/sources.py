"""The requests of a policy: from a file, from a trace that we know by name, or drawn from published statistics.

Who calls it: `replay.load`. Must not know: physics, systems.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from capstan.api import errors
from capstan.api import scenario as files
from capstan.replay import published, synth, traces
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.traces import tables

KNOWN_TRACES = {
    "azure-2023-conversation": "azure-llm-2023/AzureLLMInferenceTrace_conv.first_half.csv",
    "azure-2023-code": "azure-llm-2023/AzureLLMInferenceTrace_code.first_half.csv",
}
DIGITISED = {
    "azure-2024-conversation": (
        "azure-llm-2024-digitised/conversation_requests_per_min.csv",
        "azure-llm-2024-digitised/conversation_length_cdf.csv",
    ),
}
"""Traces of which only plots were published: rates and lengths, from which requests are drawn."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The requests of one policy, and in words where they came from.

    `known` are those of a file; where there is none they are drawn, by a seed, from `rates` and `lengths`.
    """

    spec: files.Trace
    source: str
    known: Requests | None = None
    statistics: published.Statistics | None = None
    scale_time: float = 1.0
    history: Requests | None = None

    @property
    def chancy(self) -> bool:
        """Whether another seed would be other requests, before any change of rates."""
        return self.known is None or float(self.spec.rate_ratio) != 1

    def requests(self, seed: int) -> Requests:
        """Return the requests as they stand in the source, repeated and stretched as asked."""
        requests = self.known
        if requests is None:
            if self.statistics is None:
                raise ValueError("a demand has requests or statistics to draw them from")
            requests = synth.requests(self.statistics.rates, self.statistics.lengths, seed=seed)
        return requests if self.scale_time == 1 else traces.scale_time(requests, self.scale_time)


def read(spec: files.Trace, run: files.Run, options: Options) -> Demand:
    """Return a policy's demand.

    Raises:
        Invalid: The trace is not on this machine and there is no fallback. TraceError: The file, the row and the fix.
    """
    history = None if options.history is None else traces.read(options.history).requests
    scale_time = options.scale_time or 1.0
    found = _file(spec, options) or _statistics(spec, options)
    if found is None and spec.fallback is not None:
        shape = published.BY_NAME[spec.fallback.synthetic.value]
        spec = spec.model_copy(update={"rate_ratio": spec.fallback.rate_ratio})
        found = Demand(spec, f"synthetic, drawn from the published statistics of {spec.source}", statistics=shape)
    if found is None:
        fix = "the trace is not on this machine; give a path, or a fallback"
        raise errors.Invalid(f"traces[{spec.policy}].source", fix)
    if float(spec.rate_ratio) > run.compression:
        fix = f"{spec.rate_ratio} times the trace's rates need a compression of at least that; it is {run.compression}"
        raise errors.Invalid(f"traces[{spec.policy}].rateRatio", fix)
    stretched = "" if scale_time == 1 else f", {scale_time:g} times as long"
    return replace(found, source=f"{found.source}{stretched}", scale_time=scale_time, history=history)


def played(demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests:
    """Return the requests of one seed at one rate multiple: thinned, compressed, cut.

    Raises:
        Invalid: Not one is left.
    """
    whole = requests = demand.requests(seed)
    ratio = float(demand.spec.rate_ratio)
    if run.compression != 1 or ratio != 1:
        requests = traces.compress(requests, run.compression, rate_ratio=ratio, seed=seed)
    if rate != 1:
        requests = traces.scale_rate(requests, rate, seed=seed)
    if run.duration_seconds is not None:
        requests = traces.until(requests, run.duration_seconds)
    if not len(requests):
        fix = f"not one of its {len(whole)} requests is left in the run; lower the compression or run longer"
        raise errors.Invalid(f"traces[{demand.spec.policy}]", fix)
    return requests


def _file(spec: files.Trace, options: Options) -> Demand | None:
    """Return the demand of a file, None where a trace known by name is not on this machine."""
    known = KNOWN_TRACES.get(spec.source)
    path = options.trace or (_shared(known) if known else Path(spec.source))
    if path is None or (options.trace is None and spec.source in DIGITISED):
        return None
    found = traces.read(path, told=_layout(options.columns))
    dropped = "".join(f", {d.count} left out ({d.why})" for d in found.dropped)
    if spec.repeat == 1 or options.trace is not None:
        return Demand(spec, f"{found.source}{dropped}", found.requests)
    requests = traces.repeat(found.requests, spec.repeat)
    return Demand(spec, f"{found.source}{dropped}, played {spec.repeat} times", requests)


def _layout(columns: str | None) -> traces.Layout | None:
    try:
        return traces.custom(columns) if columns else None
    except ValueError as problem:
        field, _, fix = str(problem).partition(": ")
        raise errors.Invalid(field, fix) from problem


def _statistics(spec: files.Trace, options: Options) -> Demand | None:
    """Return the demand that is drawn from digitised plots, None where they are not on this machine."""
    if options.trace is not None or spec.source not in DIGITISED:
        return None
    rates, lengths = (_shared(name) for name in DIGITISED[spec.source])
    if rates is None or lengths is None:
        return None
    shape = published.Statistics(spec.source, tables.read_rates(rates), tables.read_lengths(lengths))
    return Demand(spec, f"drawn from the digitised plots of {spec.source}", statistics=shape)


def _shared(name: str) -> Path | None:
    data = traces.shared_data_at_hand()
    found = None if data is None else data / name
    return found if found is not None and found.exists() else None
