"""`search.json`: what a search found, under stable names with units; a figure that does not exist is null.

Who calls it: `app.search`. Must not know: files, HTML. A name that changes here is a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

from capstan.replay.pages.numbers import finite
from capstan.replay.setups import pages, screen
from capstan.replay.setups.apart import Apart
from capstan.replay.setups.finding import AnyPlayed, Found
from capstan.replay.setups.kinds import Pair, Setup
from capstan.replay.setups.screen import Screened

SCHEMA_VERSION = 1

Json = dict[str, object]


def of(found: Found) -> Json:
    """Return what `search.json` holds."""
    best, own = found.best, found.hunt.best_own
    own_rows = (row for row in found.rows if found.screen.grid.is_own(row.setup.engine))
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "trace": found.alone.scenario.trace,
        "sentence": pages.sentence(found),
        "slo_met": best is not None,
        "best": None if best is None else _played(found, best),
        "best_with_own_flags": None if own is None else _played(found, own),
        "replayed": [_played(found, one) for one in found.played],
        "frontier_closed_form": [_screened(row) for row in screen.frontier(found.rows)],
        "frontier_own_flags_closed_form": [_screened(row) for row in screen.frontier(own_rows)],
        "frontier_apart_closed_form": [_apart(pair) for pair in found.pairs],
        "settings": dict(pages.settings(found)),
        "set_ups_screened": found.screen.looks,
        "world_runs": found.runs,
        "neighbours_replayed": found.hunt.finished,
        "pairs_settled": found.pair_hunt.finished,
        "screening_s": round(found.screening_s, 3),
        "playing_s": round(found.playing_s, 3),
    }


def _setup(setup: Setup | Pair) -> Json:
    if isinstance(setup, Pair):
        return {"gpus": setup.gpus, "prefill": _setup(setup.prefill), "decode": _setup(setup.decode)}
    return {
        "tp": setup.engine.tp,
        "pp": setup.engine.pp,
        "replicas": setup.replicas,
        "gpus": setup.gpus,
        "max_num_seqs": setup.engine.max_num_seqs,
        "chunk_tokens": setup.engine.chunk_tokens,
        "clock_mhz": setup.clock_mhz,
    }


def _played(found: Found, one: AnyPlayed) -> Json:
    return {
        "words": one.setup.words,
        "set_up": _setup(one.setup),
        "slo_met": one.slo_met,
        "slo_attainment_ratio": finite(one.attainment_ratio),
        "energy_j": finite(one.energy_j),
        "energy_closed_form_j": finite(found.screened_j(one.setup)),
        "energy_unassigned_j": finite(one.unassigned_j),
        "j_per_output_token": finite(one.energy_j / one.output_tokens if one.output_tokens else None),
        "ttft_p99_s": finite(one.ttft_s),
        "tpot_p99_s": finite(one.tpot_s),
        "peak_sequences_per_replica": finite(one.peak_sequences),
        "requests": one.requests,
        "completed": one.completed,
        "remarks": list(pages.remarks(found, one)),
    }


def _screened(row: Screened) -> Json:
    return {
        "set_up": _setup(row.setup),
        "energy_j": finite(row.energy_j),
        "busiest_minute_stress_ratio": finite(row.stress_ratio),
        "busiest_minute_ttft_s": finite(row.ttft_s),
        "busiest_minute_tpot_s": finite(row.tpot_s),
    }


def _apart(pair: Apart) -> Json:
    return {
        "set_up": _setup(pair.pair),
        "energy_j": finite(pair.energy_j),
        "busiest_minute_stress_ratio": finite(pair.stress_ratio),
        "busiest_minute_ttft_s": finite(pair.prefill.latency_s),
        "busiest_minute_tpot_s": finite(pair.decode.latency_s),
    }
