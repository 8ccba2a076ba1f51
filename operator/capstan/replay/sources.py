"""The requests of a policy: from a file, from a trace that we know by name, or drawn from published statistics.

Who calls it: `replay.load`. Must not know: physics, systems.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """The requests of one policy as they were read, and in words where they came from."""

    spec: files.Trace
    requests: Requests
    source: str
    history: Requests | None = None


def read(spec: files.Trace, run: files.Run, options: Options, *, seed: int) -> Demand:
    """Return a policy's requests as they stand in the source.

    Raises:
        Invalid: The trace is not on this machine and there is no fallback. TraceError: The file, the row and the fix.
    """
    history = None if options.history is None else traces.read(options.history).requests
    found = _known(spec, options, seed=seed)
    if found is not None:
        requests, source = found
    elif spec.fallback is not None:
        shape = published.BY_NAME[spec.fallback.synthetic.value]
        requests = synth.requests(shape.rates, shape.lengths, seed=seed)
        source = f"synthetic, drawn from the published statistics of {spec.source}"
        spec = spec.model_copy(update={"rate_ratio": spec.fallback.rate_ratio})
    else:
        fix = "the trace is not on this machine; give a path, or a fallback"
        raise errors.Invalid(f"traces[{spec.policy}].source", fix)
    if float(spec.rate_ratio) > run.compression:
        fix = f"{spec.rate_ratio} times the trace's rates need a compression of at least that; it is {run.compression}"
        raise errors.Invalid(f"traces[{spec.policy}].rateRatio", fix)
    if spec.repeat > 1 and options.trace is None:
        requests, source = traces.repeat(requests, spec.repeat), f"{source}, played {spec.repeat} times"
    if options.scale_time not in (None, 1.0):
        requests = traces.scale_time(requests, options.scale_time or 1.0)
        source = f"{source}, {options.scale_time:g} times as long"
    return Demand(spec, requests, source, history)


def played(demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests:
    """Return the requests of one seed at one rate multiple: thinned, compressed, cut.

    Raises:
        Invalid: Not one is left.
    """
    requests = demand.requests
    ratio = float(demand.spec.rate_ratio)
    if run.compression != 1 or ratio != 1:
        requests = traces.compress(requests, run.compression, rate_ratio=ratio, seed=seed)
    if rate != 1:
        requests = traces.scale_rate(requests, rate, seed=seed)
    if run.duration_seconds is not None:
        requests = traces.until(requests, run.duration_seconds)
    if not len(requests):
        fix = f"not one of its {len(demand.requests)} requests is left in the run; lower the compression or run longer"
        raise errors.Invalid(f"traces[{demand.spec.policy}]", fix)
    return requests


def _known(spec: files.Trace, options: Options, *, seed: int) -> tuple[Requests, str] | None:
    """Return requests and source of a file, None where a trace known by name is not on this machine."""
    if options.trace is None and spec.source in DIGITISED:
        paths = [_shared(name) for name in DIGITISED[spec.source]]
        rates, lengths = paths
        if rates is None or lengths is None:
            return None
        drawn = synth.requests(tables.read_rates(rates), tables.read_lengths(lengths), seed=seed)
        return drawn, f"drawn from the digitised plots of {spec.source}, seed {seed}"
    known = KNOWN_TRACES.get(spec.source)
    path = options.trace or (_shared(known) if known else Path(spec.source))
    if path is None:
        return None
    told = traces.custom(options.columns) if options.trace is not None and options.columns else None
    found = traces.read(path, told=told)
    dropped = "".join(f", {d.count} left out ({d.why})" for d in found.dropped)
    return found.requests, f"{found.source}{dropped}"


def _shared(name: str) -> Path | None:
    data = traces.shared_data(Path(__file__).resolve().parent) or traces.shared_data(Path.cwd())
    found = None if data is None else data / name
    return found if found is not None and found.exists() else None
