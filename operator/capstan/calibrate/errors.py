"""Errors of a fit: per group in sample, and with whole tps, batches or LLMs left out.

Who calls it: `capstan profile fit`, which prints the table, and the tests that hold the goals. A left-out row is
predicted by a fit that never saw its tp, batch or LLM, through the rule by which `estimate` chooses a level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from capstan.calibrate import choose, form, gpus, measurements, modelled, parameters, physics, solve
from capstan.calibrate.fitted import Error, ErrorKey, Fitted, Span, SpanKey
from capstan.calibrate.measurements import Kind, Observation, Quantity

QUANTITIES = {
    Kind.DECODE: Quantity.DECODE,
    Kind.RUN: Quantity.DECODE,
    Kind.LOOP_STEP: Quantity.DECODE,
    Kind.LOOP_MEAN: Quantity.DECODE,
    Kind.PREFILL: Quantity.PREFILL,
    Kind.TTFT: Quantity.PREFILL,
    Kind.LOOP_POWER: Quantity.POWER,
    Kind.RUN_POWER: Quantity.POWER,
    Kind.LOOP_ENERGY: Quantity.ENERGY,
}
ENGINE_KINDS = tuple(QUANTITIES)


@dataclass(frozen=True, slots=True)
class Pair:
    """A modelled and a measured figure."""

    one: Observation
    modelled: float

    @property
    def error_ratio(self) -> float:
        """Return the signed relative error."""
        return self.modelled / self.one.value - 1


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    protocol: str
    quantity: str
    source: str
    llm: str
    gpu: str
    tp: str
    error: Error


def with_errors(fit: Fitted, seen: Sequence[Observation]) -> Fitted:
    """Return the fit with its in-sample errors and what they cover."""
    lookup = solve.profiles(fit.times, fit.levels, fit.power)
    groups: dict[ErrorKey, list[Pair]] = defaultdict(list)
    spans: dict[SpanKey, list[Observation]] = defaultdict(list)
    for one in seen:
        if one.kind in ENGINE_KINDS:
            key = (one.engine, one.llm, one.gpu, one.tp)
            groups[*key, QUANTITIES[one.kind].value].append(Pair(one, modelled.value(lookup(one), one)))
            spans[key].append(one)
    errors = {key: error_of(pairs) for key, pairs in groups.items()}
    return replace(fit, errors=errors, spans={key: _span(rows) for key, rows in spans.items()})


def error_of(pairs: Sequence[Pair]) -> Error:
    """Return the errors of a group."""
    errors = [pair.error_ratio for pair in pairs]
    mape = sum(abs(error) for error in errors) / len(errors)
    return Error(mape, sum(errors) / len(errors), max(errors, key=abs), len(errors))


def _span(rows: Sequence[Observation]) -> Span:
    decoding = [one for one in rows if QUANTITIES[one.kind] is Quantity.DECODE]
    context = [one.context_tokens or one.prompt_tokens + one.output_tokens for one in decoding]
    prompts = [one.prompt_tokens for one in rows if one.kind in {Kind.PREFILL, Kind.TTFT, Kind.RUN}]
    batches = [one.batch for one in decoding]
    ends = [(round(min(found)), round(max(found))) if found else (0, 0) for found in (batches, context, prompts)]
    return Span(*ends[0], *ends[1], *ends[2])


def in_sample(fit: Fitted, seen: Sequence[Observation]) -> list[Line]:
    """Return one line per group of rows that were fitted."""
    lookup = solve.profiles(fit.times, fit.levels, fit.power)
    return lines("in sample", [Pair(one, modelled.value(lookup(one), one)) for one in seen if one.kind in ENGINE_KINDS])


def left_out(fit: Fitted, seen: Sequence[Observation], hidden: Sequence[Observation]) -> list[Pair]:
    """Return `hidden` rows predicted by a fit of all others, which begins at the full fit."""
    gone = set(hidden)
    rest = [one for one in seen if one not in gone]
    again = with_errors(solve.fit(rest, fit.times), rest)
    return [Pair(one, _predicted(again, one)) for one in hidden]


def _predicted(fit: Fitted, one: Observation) -> float:
    """Return what an estimate says, at the level that it would choose among the rows of the row's own engine."""
    llm, gpu = measurements.shape(one.llm), gpus.find(one.gpu)
    chosen = choose.level(fit, llm, gpu, one.engine)
    timing = physics.step_times(fit.times, llm, gpu, one.tp, one.engine)
    draw = form.levelled_draw(parameters.draw(fit.power[gpu.name], gpu, one.tp), chosen)
    return modelled.value(physics.profile(llm, gpu, one.tp, form.levelled(timing, chosen), draw), one)


def protocols(seen: Sequence[Observation]) -> dict[str, list[list[Observation]]]:
    """Return what is left out together, by protocol: whole tps, batches, LLMs."""
    rows = [one for one in seen if one.kind in ENGINE_KINDS and one.engine != parameters.TRT]
    tps: dict[tuple[str, str, str, int], list[Observation]] = defaultdict(list)
    batches: dict[int, list[Observation]] = defaultdict(list)
    llms: dict[str, list[Observation]] = defaultdict(list)
    for one in rows:
        tps[one.engine, one.llm, one.gpu, one.tp].append(one)
        batches[_octave(one.batch)].append(one)
        llms[one.llm].append(one)
    several = {key[:3] for key in tps if sum(other[:3] == key[:3] for other in tps) > 1}
    return {
        "tp left out": [group for key, group in sorted(tps.items()) if key[:3] in several],
        "batch left out": [group for octave, group in sorted(batches.items()) if octave in INNER_OCTAVES],
        "LLM left out": [group for _, group in sorted(llms.items()) if any(one.source == "ml-energy" for one in group)],
    }


INNER_OCTAVES = (4, 5, 6, 7, 8)
"""Batches of about 16, 32, 64, 128 and 256: others on either side stay in the fit."""


def _octave(batch: float) -> int:
    return max(round(batch), 1).bit_length() - 1 if batch < 1 else (round(batch) * 4 // 3).bit_length() - 1


def lines(protocol: str, pairs: Iterable[Pair]) -> list[Line]:
    """Return one line per (quantity, data set, LLM, GPU, tp)."""
    groups: dict[tuple[str, str, str, str, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        one = pair.one
        source = f"{one.source} ({one.engine})"
        groups[QUANTITIES[one.kind].value, source, one.llm, one.gpu, one.tp].append(pair)
    return [
        Line(protocol, quantity, source, llm, gpu, str(tp), error_of(found))
        for (quantity, source, llm, gpu, tp), found in sorted(groups.items())
    ]


def summary(found: Sequence[Line], protocol: str, quantity: str) -> Error | None:
    """Return mean over groups, mean bias and the worst group's MAPE of one protocol and quantity."""
    errors = [line.error for line in found if line.protocol == protocol and line.quantity == quantity]
    if not errors:
        return None
    count = len(errors)
    return Error(
        sum(error.mape_ratio for error in errors) / count,
        sum(error.bias_ratio for error in errors) / count,
        max(error.mape_ratio for error in errors),
        sum(error.rows for error in errors),
    )
