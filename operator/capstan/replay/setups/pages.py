"""What a search says to people: sentences, tables, and the page `search.html`.

Who calls it: `app.search`. Must not know: files, how anything was found. Terminal and page print the same words.
"""

from __future__ import annotations

from collections.abc import Iterator

from capstan.replay.pages import rendering, words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.pages.numbers import finite
from capstan.replay.setups import drawings, pipeline
from capstan.replay.setups.finding import AnyPlayed, Found
from capstan.replay.setups.kinds import Engine, Objective, Pair, Setup

CLOSEST = 5  # set-ups that are named where nothing meets the SLO
FLAT_RATIO = 0.0005  # a change that would print as 0.0 %


def html(found: Found) -> str:
    """Return the page."""
    met = found.best is not None
    tables = (
        Titled("The best of each layout" if met else "What comes closest", leading(found), notes(found)),
        Titled("Everything that was replayed", everything(found)),
    )
    return rendering.html(
        "search",
        passed=met,
        word="Found." if met else "Nothing fits.",
        sentence=sentence(found),
        savings=list(comparisons(found)),
        trace=found.alone.scenario.trace,
        provenance=provenance(found),
        drawings=drawings.of(found),
        tables=tables,
        settings=settings(found),
    )


# --- sentences ---------------------------------------------------------------------------------------


def sentence(found: Found) -> str:
    """Return what was found in one sentence."""
    best = found.best
    gpus = max((tp * lanes for tp, lanes in found.screen.rooms.items()), default=0)
    if best is not None:
        least = "fewest GPUs" if found.asked.objective is Objective.GPUS else "least joules"
        return (
            f"{best.setup.words}: {least} that meet the SLO, {_energy(found, best)} on {best.setup.gpus} of "
            f"{gpus} GPUs, {words.percent(best.attainment_ratio)} of the requests inside it."
        )
    closest = found.closest
    return (
        f"Nothing meets the SLO on {_allowed(found, gpus)} GPUs. Closest: {closest.setup.words}, with "
        f"{words.percent(closest.attainment_ratio)} of the requests inside it; {limited(found, closest)}."
    )


def _energy(found: Found, one: AnyPlayed) -> str:
    """Return joules in the unit of all runs, so that they compare."""
    unit = words.energy_unit(each.energy_j for each in found.played)
    return f"{unit.number(one.energy_j)} {unit.name}"


def _allowed(found: Found, gpus: int) -> int:
    bound = found.screen.bounds.max_gpus
    return gpus if bound is None else min(gpus, bound)


def limited(found: Found, one: AnyPlayed) -> str:
    """Return in words what keeps a set-up from the SLO."""
    held = found.alone.held
    told = []
    if one.ttft_s > max(held.ttft_s):
        told.append(f"TTFT p99 is {words.ms(finite(one.ttft_s))} of {words.ms(max(held.ttft_s))}")
    if one.tpot_s > held.tpot_s:
        told.append(f"TPOT p99 is {words.ms(finite(one.tpot_s))} of {words.ms(held.tpot_s)}")
    if one.completed < one.requests:
        told.append(f"{one.requests - one.completed:,} of {one.requests:,} requests never finished")
    if isinstance(one.setup, Setup) and (load := found.screen.stretches[0].load) is not None:
        carried_rps = found.screen.capacity_rps(one.setup)
        told.append(
            f"the busiest minute brings {load.arrival_rps:.2f} requests/s, in closed form it carries {carried_rps:.2f}"
        )
    return words.listed(told) if told else "a class of requests or a 5-minute window misses it, the whole does not"


def comparisons(found: Found) -> Iterator[str]:
    """Yield what the winner saves over simpler set-ups, and how sure its place is."""
    best, own, alone = found.best, found.hunt.best_own, found.hunt.best
    if best is not None and own is not None and own.setup != best.setup:
        yield (
            f"{_change(best.energy_j, own.energy_j)} than the best with the scenario's own engine flags "
            f"({own.setup.words}; {_energy(found, own)})."
        )
    if best is not None and alone is not None and alone is not own and alone.setup != best.setup:
        yield (
            f"{_change(best.energy_j, alone.energy_j)} than the best in one pool ({alone.setup.words}; "
            f"{_energy(found, alone)})."
        )
    yield _checked(found)


def _change(energy_j: float, other_j: float) -> str:
    ratio = energy_j / other_j - 1
    if abs(ratio) < FLAT_RATIO:
        return "As many joules"
    return f"{abs(100 * ratio):.1f} % {'fewer' if ratio < 0 else 'more'} joules"


def _checked(found: Found) -> str:
    errors = found.errors_ratio
    done = "no neighbour of the best in one pool is better"
    if found.hunt.best is None:
        done = "the largest fleets were among them"
    if not found.hunt.finished:
        done = "its runs were used up before all neighbours of the best in one pool were played (--runs)"
    if not found.pair_hunt.finished:
        done += "; pairs of pools used up theirs (--runs)"
    off = ""
    if errors:
        mean, low, high = (100 * ratio for ratio in (sum(errors) / len(errors), min(errors), max(errors)))
        off = f"; joules in closed form {mean:+.1f} % off on the mean ({low:+.1f} to {high:+.1f})"
    return (
        f"{found.screen.looks:,} set-ups screened in {found.screening_s:.1f} s, {found.runs} replayed in "
        f"{found.playing_s:.1f} s; {done}{off}."
    )


# --- tables ------------------------------------------------------------------------------------------


def leading(found: Found) -> Headed:
    """Return the best of each layout and the best with the scenario's own flags; what comes closest where none fits."""
    if found.best is None:
        return _table(found, found.played[:CLOSEST])
    kept: dict[str, AnyPlayed] = {}
    for one in found.played:
        if one.slo_met:
            kept.setdefault(_layout(one.setup), one)
    own = found.hunt.best_own
    each = [*kept.values(), *([] if own is None or own in kept.values() else [own])]
    return _table(found, sorted(each, key=found.key))


def everything(found: Found) -> Headed:
    """Return every run."""
    return _table(found, found.played)


def _layout(setup: Setup | Pair) -> str:
    return "apart" if isinstance(setup, Pair) else setup.engine.layout


def _table(found: Found, each: list[AnyPlayed] | tuple[AnyPlayed, ...]) -> Headed:
    unit = words.energy_unit(one.energy_j for one in each)
    heads = ("GPUs", f"GPU {unit.name}", "J per token", "good %", "TTFT p99 ms", "TPOT p99 ms", "remarks")
    rows = []
    for one in each:
        per_token = one.energy_j / one.output_tokens if one.output_tokens else None
        cells = (
            Cell(f"{one.setup.gpus}"),
            Cell(unit.number(one.energy_j)),
            Cell(words.number(per_token, "", 2)),
            Cell(words.percent(one.attainment_ratio).removesuffix(" %"), Tone.GOOD if one.slo_met else Tone.BAD),
            Cell(words.bare_ms(finite(one.ttft_s))),
            Cell(words.bare_ms(finite(one.tpot_s))),
            Cell("; ".join(remarks(found, one))),
        )
        rows.append(Row(one.setup.words, cells))
    return Headed(heads, tuple(rows))


def remarks(found: Found, one: AnyPlayed) -> tuple[str, ...]:
    """Return what is to be known of a run besides its figures."""
    best, own = found.best, found.hunt.best_own
    told = ["SLO missed"] if not one.slo_met else []
    told += ["best"] if best is not None and one.setup == best.setup else []
    told += ["best with the scenario's flags"] if own is not None and one.setup == own.setup else []
    return (*told, *dict.fromkeys(doubt for engine in _engines(one.setup) for doubt in found.screen.doubts(engine)))


def _engines(setup: Setup | Pair) -> tuple[Engine, ...]:
    return (setup.prefill.engine, setup.decode.engine) if isinstance(setup, Pair) else (setup.engine,)


def notes(found: Found) -> tuple[str, ...]:
    """Return the lines under the table: what the words stand for."""
    told = ["Joules: of the GPUs that a set-up holds, over the trace; the others of the fleet are not counted."]
    if len(found.screen.grid.pps) > 1:
        room = "a pipeline of pp stages is played as pp engines of its tp with more room for KV cache"
        told.append(f"Modelled: {room} and {1e6 * pipeline.HOP_S:.0f} us per hop; no latency is gained, no bubbles.")
    told.append(
        "Prefill and decode apart: requests move with their KV cache over the network, each pool has its clock."
    )
    return tuple(told)


def provenance(found: Found) -> str:
    """Return what every figure stands on."""
    named = "; ".join(words.profile(profile) for profile in found.screen.profiles)
    return f"Modelled, not measured on GPUs: {named}."


def settings(found: Found) -> tuple[tuple[str, str], ...]:
    """Return what was searched over, and on what."""
    grid, bounds = found.screen.grid, found.screen.bounds
    told = {
        "scenario": found.alone.scenario.name,
        "policy": found.alone.policy,
        "SLO": f"{found.alone.held.words}, {100 * found.alone.held.percentile_ratio:g} %",
        "objective": str(found.asked.objective),
        "tp": _numbers(grid.tps),
        "pp": _numbers(grid.pps),
        "max_num_seqs": _numbers(grid.max_num_seqs),
        "chunk_tokens": _numbers(grid.chunk_tokens),
        "replicas": f"{found.screen.least} to {bounds.max_replicas}",
        "most GPUs": "the fleet's" if bounds.max_gpus is None else str(bounds.max_gpus),
        "seconds in closed form": f"{found.screening_s:.1f}",
        "seconds in the world": f"{found.playing_s:.1f}",
        "world runs": f"{found.runs} of {found.asked.runs}",
    }
    return (*told.items(), *((name, value) for name, value in found.alone.scenario.notes if name not in told))


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(f"{value:,}" for value in sorted(values))
