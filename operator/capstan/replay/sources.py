"""The requests of a policy: from a file, from a trace that we know by name, or drawn from published statistics.

Who calls it: `replay.load`. Must not know: physics, systems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from capstan.api import errors
from capstan.api import scenario as files
from capstan.api.events import RateBurst
from capstan.replay import imagined, published, synth, traces
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


MONDAY, THURSDAY, SUNDAY = 0, 3, 6
BEGINS = {
    "azure-2024-conversation": SUNDAY,
    "azure-2023-conversation": THURSDAY,
    "azure-2023-code": THURSDAY,
}
"""Days of the week on which the traces that we know by name begin, 2024-05-12 and 2023-11-16; others: a Monday."""

STATISTICS = published.BY_NAME | imagined.BY_NAME

SYNTHETIC = "synthetic"
"""As a history: drawn. With a colon and a name, as a source: published statistics."""

PAST_STREAM, BURST_STREAM = 2, 3
"""Second parts of the seeds of a drawn history and of bursts: neither is drawn with the numbers that made the trace."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The requests of one policy, and in words where they came from.

    Attributes:
        spec: What the scenario says.
        source: Where the requests came from, in words.
        known: The requests of a file; None: they are drawn, by a seed, from `statistics`.
        statistics: What is published; with `known` only what a drawn history is drawn from.
        scale_time: Arrival times are multiplied by it.
        history: The requests of a file that came before.
        past: Whether a history is drawn.
    """

    spec: files.Trace
    source: str
    known: Requests | None = None
    statistics: published.Statistics | None = None
    scale_time: float = 1.0
    history: Requests | None = None
    past: bool = False

    @property
    def chancy(self) -> bool:
        """Whether another seed would be other requests, before any change of rates."""
        return self.known is None or self.spec.steady is not None or float(self.spec.rate_ratio) != 1

    def requests(self, seed: int, *, end_s: float = math.inf) -> Requests:
        """Return the requests as they stand in the source, repeated and stretched as asked.

        Args:
            seed: Of all that is drawn.
            end_s: Nobody needs what arrives later: drawing stops soon after it.
        """
        requests = self._drawn(self.statistics, seed, end_s / self.scale_time) if self.known is None else self.known
        requests = self._steady(requests, seed)
        return requests if self.scale_time == 1 else traces.scale_time(requests, self.scale_time)

    def before(self, seed: int) -> Requests | None:
        """Return what came before the trace, at the trace's own rates; None where nothing is known of it.

        A drawn history is as long as what it is drawn from. Its days are busier or quieter than the published ones, as
        one week's are than another's.
        """
        if not self.past:
            return self.history
        earlier = _seed(seed, PAST_STREAM)
        if self.spec.steady is not None and self.known is not None:
            requests = self.known
        else:
            shape = self.statistics
            requests = self._drawn(None if shape is None else published.another(shape, earlier), earlier, math.inf)
        requests = self._steady(requests, earlier)
        return requests if self.scale_time == 1 else traces.scale_time(requests, self.scale_time)

    def _drawn(self, shape: published.Statistics | None, seed: int, end_s: float) -> Requests:
        if shape is None:
            raise ValueError("a demand has requests or statistics to draw them from")
        parts = synth.chunks(shape.rates, shape.lengths, seed=seed)
        if self.spec.steady is not None or not math.isfinite(end_s):
            return traces.joined(parts)
        return traces.joined(_reaching(parts, end_s))

    def _steady(self, requests: Requests, seed: int) -> Requests:
        asked = self.spec.steady
        if asked is None:
            return requests
        tokens_per_s, span_s = float(asked.tokens_per_second), float(asked.seconds)
        return traces.steady(requests, tokens_per_s=tokens_per_s, span_s=span_s, seed=seed)


def read(spec: files.Trace, run: files.Run, options: Options) -> Demand:
    """Return a policy's demand.

    Raises:
        Invalid: The trace is not on this machine and there is no fallback, or nothing is known to draw a history from.
        TraceError: The file, the row and the fix.
    """
    found = _file(spec, options) or _statistics(spec, options)
    shape = None if spec.fallback is None else STATISTICS[spec.fallback.synthetic.value]
    if found is None and spec.fallback is not None:
        spec = spec.model_copy(update={"rate_ratio": spec.fallback.rate_ratio})
        found = Demand(spec, f"synthetic, drawn from the published statistics of {spec.source}", statistics=shape)
    if found is None:
        fix = "the trace is not on this machine; give a path, or a fallback"
        raise errors.Invalid(f"traces[{spec.policy}].source", fix)
    if float(spec.rate_ratio) > run.compression:
        fix = f"{spec.rate_ratio} times the trace's rates need a compression of at least that; it is {run.compression}"
        raise errors.Invalid(f"traces[{spec.policy}].rateRatio", fix)
    scale_time = options.scale_time or 1.0
    found = replace(found, statistics=found.statistics or shape, scale_time=scale_time, source=_told(found, scale_time))
    return _with_history(found, options)


def played(demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests:
    """Return the requests of one seed at one rate multiple: thinned, compressed, with their bursts, cut.

    Raises:
        Invalid: Not one is left.
    """
    needed_s = math.inf if run.duration_seconds is None or rate != 1 else float(run.duration_seconds * run.compression)
    whole = demand.requests(seed, end_s=needed_s)
    requests = _at(whole, demand, run, seed=seed, rate=rate)
    for index, event in enumerate(run.events):
        if isinstance(event, RateBurst) and event.policy == demand.spec.policy:
            requests = _burst(requests, event, _seed(seed, BURST_STREAM, index))
    if run.duration_seconds is not None:
        requests = traces.until(requests, run.duration_seconds)
    if not len(requests):
        fix = f"not one of its {len(whole)} requests is left in the run; lower the compression or run longer"
        raise errors.Invalid(f"traces[{demand.spec.policy}]", fix)
    return requests


def denser(demand: Demand, run: files.Run, ratio: float, field: str) -> Demand:
    """Return a demand with a multiple of its requests, drawn from those that its trace has.

    Raises:
        Invalid: The trace has fewer; `field` is who asked.
    """
    found = ratio * float(demand.spec.rate_ratio)
    if found > run.compression:
        fix = (
            f"{found:g} times the requests of {demand.spec.policy} need a compression of that; it is {run.compression}"
        )
        raise errors.Invalid(field, fix)
    return replace(demand, spec=demand.spec.model_copy(update={"rate_ratio": f"{found:.9f}"}))


def before(demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests | None:
    """Return what came before, thinned, compressed and scaled as the trace is; None where nothing is known of it."""
    requests = demand.before(seed)
    return None if requests is None else _at(requests, demand, run, seed=_seed(seed, PAST_STREAM), rate=rate)


def _reaching(parts: Iterable[Requests], end_s: float) -> Iterator[Requests]:
    """Yield the parts of a trace up to the one that passes `end_s`."""
    for part in parts:
        yield part
        if len(part) and part.arrival_s[-1] >= end_s:
            return


def _at(requests: Requests, demand: Demand, run: files.Run, *, seed: int, rate: float) -> Requests:
    """Return requests at the run's compression and at a rate multiple."""
    ratio = float(demand.spec.rate_ratio)
    if run.compression != 1 or ratio != 1:
        requests = traces.compress(requests, run.compression, rate_ratio=ratio, seed=seed)
    return requests if rate == 1 else traces.scale_rate(requests, rate, seed=seed)


def _burst(requests: Requests, event: RateBurst, seed: int) -> Requests:
    return traces.burst(
        requests,
        float(event.factor),
        start_s=float(event.at_seconds),
        ramp_s=float(event.ramp_seconds),
        lasting_s=float(event.for_seconds),
        seed=seed,
    )


def _seed(*parts: int) -> int:
    """Return one seed of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _told(found: Demand, scale_time: float) -> str:
    """Return in words where requests came from, and what was made of them."""
    asked = found.spec.steady
    steady = "" if asked is None else f", lengths only: Poisson at {asked.tokens_per_second:,} tokens/s"
    stretched = "" if scale_time == 1 else f", {scale_time:g} times as long"
    return f"{found.source}{steady}{stretched}"


def _with_history(demand: Demand, options: Options) -> Demand:
    """Return a demand with what came before it.

    Raises:
        Invalid: A history is to be drawn, and nothing is published to draw it from. TraceError: The file's fault.
    """
    if options.history is None:
        return demand
    if not isinstance(options.history, files.History):
        return replace(demand, history=traces.read(options.history).requests)
    if demand.statistics is None and demand.spec.steady is None:
        fix = f"nothing is published to draw the past of {demand.spec.policy} from; give its trace a fallback"
        raise errors.Invalid("--history", fix)
    return replace(demand, source=f"{demand.source}, with a history drawn by another seed", past=True)


def _file(spec: files.Trace, options: Options) -> Demand | None:
    """Return the demand of a file, None where a trace known by name is not on this machine."""
    if options.trace is None and spec.source.startswith(f"{SYNTHETIC}:"):
        return None
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
    """Return the demand that is drawn from statistics, None where they are not on this machine.

    Raises:
        Invalid: No statistics have that name.
    """
    kind, _, name = spec.source.partition(":")
    if kind == SYNTHETIC and name:
        if name not in STATISTICS:
            fix = f"{name} are no statistics; write {SYNTHETIC}: and one of {', '.join(STATISTICS)}"
            raise errors.Invalid(f"traces[{spec.policy}].source", fix)
        shape = STATISTICS[name]
        return Demand(spec, f"synthetic: {shape.words}", statistics=shape)
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
