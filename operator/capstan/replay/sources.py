"""The requests of a policy: from a file, from a trace that we know by name, or drawn from published statistics.

Who calls it: `replay.load`. Must not know: physics, systems.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capstan.api import errors
from capstan.api import scenario as files
from capstan.replay import synth, traces
from capstan.replay.options import Options
from capstan.replay.runs import Requests

KNOWN_TRACES = {
    "azure-2023-conversation": "azure-llm-2023/AzureLLMInferenceTrace_conv.first_half.csv",
    "azure-2023-code": "azure-llm-2023/AzureLLMInferenceTrace_code.first_half.csv",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """The requests of one policy as they were read, and in words where they came from."""

    spec: files.Trace
    requests: Requests
    source: str
    history: Requests | None = None


def read(spec: files.Trace, run: files.Run, options: Options, *, seed: int) -> Demand:
    """Return a policy's requests as they stand in the source, and in words where they came from."""
    path = options.trace or _source(spec.source)
    history = None if options.history is None else traces.read(options.history).requests
    if path is not None:
        found = traces.read(path, columns=options.columns if options.trace else None)
        requests, source = found.requests, found.source
    elif spec.fallback is not None:
        requests = synth.columns(synth.BY_NAME[spec.fallback.synthetic.value], seed=seed)
        source = f"synthetic, drawn from the published statistics of {spec.source}"
        spec = spec.model_copy(update={"rate_ratio": spec.fallback.rate_ratio})
    else:
        fix = "the trace is not on this machine; give a path, or a fallback"
        raise errors.Invalid(f"traces[{spec.policy}].source", fix)
    if float(spec.rate_ratio) > run.compression:
        fix = f"{spec.rate_ratio} times the trace's rates need a compression of at least that; it is {run.compression}"
        raise errors.Invalid(f"traces[{spec.policy}].rateRatio", fix)
    if spec.repeat > 1:
        requests, source = traces.repeat(requests, spec.repeat), f"{source}, played {spec.repeat} times"
    return Demand(spec, requests, source, history)


def played(demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests:
    """Return the requests of one seed at one rate multiple: thinned, compressed, cut."""
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


def _source(source: str) -> Path | None:
    """Return the file of a source, None where a known trace is not on this machine."""
    if source not in KNOWN_TRACES:
        return Path(source)
    data = traces.shared_data(Path(__file__).resolve().parent) or traces.shared_data(Path.cwd())
    found = None if data is None else data / KNOWN_TRACES[source]
    return found if found is not None and found.exists() else None
