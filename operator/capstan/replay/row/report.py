"""What a row's experiment found, in words and numbers; terminal, page and `report.json` print the same.

Who calls it: `app.replay_kinds`, `page`. Must not know: HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capstan.powercap.domains import Level
from capstan.replay.pages import report as pages
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.row import derived, experiment, score
from capstan.replay.row.experiment import Combination, Piece
from capstan.replay.row.measure import Measured
from capstan.replay.row.systems import System

SCHEMA_VERSION = 1
MUST_BREAK = "no-cap"
MUST_BREAK_RATIO = 1.3  # the issue's: without caps the row must exceed its budget there, or nothing is shown

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was played; `domain` is the name of the row's PowerDomain."""

    name: str
    domain: str
    asked: experiment.Asked
    pieces: tuple[Piece, ...]

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """Return the worlds' kinds in order."""
        return tuple(dict.fromkeys(piece.combination for piece in self.pieces))

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the servers that were tried, ascending."""
        return tuple(sorted({piece.servers for piece in self.pieces}))

    def of(self, combination: Combination, servers: int | None = None) -> list[Piece]:
        """Return the pieces of a combination, of all seeds."""
        return [p for p in self.pieces if p.combination == combination and servers in (None, p.servers)]


def cells(found: Found, combination: Combination, servers: int, system: str) -> list[experiment.Cell]:
    """Return a system's cells of all seeds in one world."""
    return [c for piece in found.of(combination, servers) for c in piece.cells if c.system.name == system]


def more(found: Found, servers: int) -> str:
    """Return how many servers were added, as the tables say it."""
    return f"+{round(100 * (servers / found.asked.built - 1))} %"


def valid(found: Found, combination: Combination) -> bool | None:
    """Return whether the row without caps exceeds its budget with 30 % more servers; None: that was not played."""
    at = round(found.asked.built * MUST_BREAK_RATIO)
    here = found.of(combination, at)
    return min(piece.uncapped.peak_ratio for piece in here) > 1 if here else None


def held(found: Found, combination: Combination, system: str, *, ours: bool = False) -> int | None:
    """Return the most servers with no brake, no joule above the budget and all SLOs met, in every seed.

    A count above one that fails does not count. None: not even the fewest.
    """
    most = None
    for servers in found.counts:
        scores = [cell.score for cell in cells(found, combination, servers, system)]
        if not all(one.holds_ours if ours else one.holds for one in scores):
            break
        most = servers
    return most


def load(found: Found, combination: Combination) -> Titled:
    """Return the table of what the load is, measured before any policy was looked at."""
    heads = ("peak, % of budget", "worst rise in 2 s, %", "in 40 s, %", "mean, %", "1st percentile, %")
    seeds = {piece.seed: piece.generated for piece in found.of(combination)}
    rows = tuple(
        Row(f"seed {seed}", tuple(Cell(f"{100 * value:.1f}") for value in _measured(one)))
        for seed, one in seeds.items()
    )
    verdict = valid(found, combination)
    words = {
        None: "+30 % was not played, so whether the budget can be exceeded there was not seen.",
        True: "Without caps the row exceeds its budget with 30 % more servers, as it must.",
        False: "INVALID: without caps the row stays inside its budget with 30 % more servers; the tables say nothing.",
    }[verdict]
    title = f"The load: {found.asked.built} servers, no caps; {described(combination)}"
    return Titled(title, Headed(heads, rows), (words,))


def _measured(one: Measured) -> tuple[float, ...]:
    return one.peak_ratio, one.fast_rise_ratio, one.slow_rise_ratio, one.mean_ratio, one.quiet_ratio


def described(combination: Combination) -> str:
    """Return a world in words."""
    more_power = "" if combination.power_scale == 1 else f", GPUs draw {100 * (combination.power_scale - 1):+.0f} %"
    return (
        f"GPUs are {100 * combination.gpu_share_ratio:.0f} % of a server's watts, "
        f"{100 * combination.low_share_ratio:.0f} % of the servers low priority{more_power}"
    )


def most(found: Found, combination: Combination) -> Titled:
    """Return the table of how many servers each system holds."""
    heads = ("POLCA's SLOs", "closer SLOs", "r_max, %", "ceiling")
    rows = []
    for system in found.asked.systems:
        shed = float(np.mean([p.shed_ratio[system.name] for p in found.of(combination)]))
        ceiling = experiment.ceiling_ratio(found.asked.peak_ratio, shed)
        kept = [_most(found, held(found, combination, system.name, ours=ours)) for ours in (False, True)]
        rows.append(
            Row(system.name, (Cell(kept[0]), Cell(kept[1]), Cell(f"{100 * shed:.1f}"), Cell(f"+{100 * ceiling:.0f} %")))
        )
    notes = (
        "Servers added with no brake, no joule above the budget and all SLOs met, in every seed; of the counts that "
        "were tried. POLCA's SLOs: high p50 < 1 %, p99 < 5 %; low p50 < 5 %, p99 < 50 % slower than uncapped. Closer: "
        "high p99 < 1 %, low p99 < 10 %, too. r_max: the most that the caps take off the busy row, all at the caps of "
        "HighCap; ceiling: 1 / (peak (1 - r_max)) - 1.",
    )
    return Titled("How many more servers", Headed(heads, tuple(rows)), notes)


def _most(found: Found, servers: int | None) -> str:
    return "none" if servers is None else f"{more(found, servers)} ({servers})"


def table(found: Found, combination: Combination, servers: int) -> Titled:
    """Return every system's figures in one world: counts are sums over seeds, slowdowns the worst seed's."""
    heads = ("brakes", "above, kJ", "longest, s", "peak, %", "low, %", "high, %", "capped, %", "SLOs")
    rows = tuple(
        Row(system.name, tuple(_figures(cells(found, combination, servers, system.name))))
        for system in found.asked.systems
    )
    here = found.of(combination, servers)
    uncapped = max(piece.uncapped.peak_ratio for piece in here)
    title = f"{more(found, servers)}: {servers} servers; without caps the row peaks at {100 * uncapped:.1f} %"
    return Titled(title, Headed(heads, rows), _notes(here))


def _notes(here: Sequence[Piece]) -> tuple[str, ...]:
    """Return what was derived, and how many brakes in how much time none stands for."""
    weeks = sum(piece.cells[0].score.scored_s for piece in here if piece.cells) / 604_800
    notes = [
        "Low, high: end-to-end p50 / p99 / TTFT p99, slower than uncapped, worst seed. Above: joules above the budget.",
        f"No brake in {weeks:g} week{'' if weeks == 1 else 's'}: with 95 % confidence below "
        f"{score.most_brakes(0) / weeks:.2f} a week.",
    ]
    if any(cell.score.left_out for piece in here for cell in piece.cells):
        notes.append(
            "Left out: servers for which the budget has no grant. They are off and what is asked of them is refused: "
            "the count does not fit, and the other figures are those of fewer servers."
        )
    return (*notes, *_derived([piece.found for piece in here if piece.found is not None], len(here)))


def _derived(here: Sequence[derived.Found], seeds: int) -> Iterator[str]:
    """Yield what was derived in how many seeds, and how many settings were tried for it."""
    laws = Counter(_law(found) for found in here)
    yield from (f"{words}, in {count} of {seeds} seeds" for words, count in laws.most_common())
    if here:
        least, most = min(one.tried for one in here), max(one.tried for one in here)
        yield f"Settings tried for it, a seed: {least if least == most else f'{least} to {most}'}."


def _law(found: derived.Found) -> str:
    """Return what was derived, in words."""
    at, caps = found.system.thresholds, found.system.caps
    return (
        f"{found.system.name} (derived on the weeks before): thresholds "
        f"{100 * at.low_ratio:.0f} / {100 * at.high_ratio:.0f} / {100 * at.brake_ratio:.0f} %, low "
        f"{caps.low_base_mhz:.0f} / {caps.low_deep_mhz:.0f} MHz, high {caps.high_mhz:.0f} MHz"
    )


def _figures(found: Sequence[experiment.Cell]) -> Iterator[Cell]:
    scores = [cell.score for cell in found]
    brakes = sum(one.brakes for one in scores)
    yield Cell(f"{brakes:,}", Tone.BAD if brakes else Tone.GOOD)
    over_j = sum(one.overbudget_j for one in scores)
    yield Cell(f"{over_j / 1e3:,.0f}", Tone.BAD if over_j else Tone.GOOD)
    yield Cell(f"{max(one.longest_excursion_s for one in scores):.0f}")
    yield Cell(f"{100 * max(one.peak_ratio for one in scores):.1f}")
    yield Cell(_slowdown([one.low for one in scores]))
    yield Cell(_slowdown([one.high for one in scores]))
    free = np.mean([dict(one.state_ratio).get(Level.NORMAL, 0.0) for one in scores])
    yield Cell(f"{100 * (1 - float(free)):.0f}")
    kept = all(one.holds for one in scores)
    closer = all(one.holds_ours for one in scores)
    out = max(one.left_out for one in scores)
    verdict = f"{out} left out" if out else ("closer" if closer else ("met" if kept else "missed"))
    yield Cell(verdict, Tone.GOOD if kept else Tone.BAD)


def _slowdown(found: Sequence[score.Slowdown]) -> str:
    """Return p50 / p99 of the latency, and p99 of the time to the first token, of the worst seed."""
    worst = (
        max(one.p50_ratio for one in found),
        max(one.p99_ratio for one in found),
        max(one.ttft_p99_ratio for one in found),
    )
    return " / ".join(f"{100 * ratio:.1f}" for ratio in worst)


def document(found: Found) -> Json:
    """Return what `report.json` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "scenario": found.name,
        "profile": found.asked.profile.name,
        "budget_w": found.asked.budget_w,
        "built_servers": found.asked.built,
        "weeks": {"derived": found.asked.derived_weeks, "scored": found.asked.scored_weeks},
        "combinations": [_combination(found, one) for one in found.combinations],
    }


def _combination(found: Found, combination: Combination) -> Json:
    return {
        "gpu_share_ratio": combination.gpu_share_ratio,
        "low_share_ratio": combination.low_share_ratio,
        "power_scale": combination.power_scale,
        "valid": valid(found, combination),
        "generated": {
            str(piece.seed): dict(zip(MEASURED, _measured(piece.generated), strict=True))
            for piece in found.of(combination)
        },
        "systems": {system.name: _system(found, combination, system) for system in found.asked.systems},
    }


MEASURED = ("peak_ratio", "rise_2s_ratio", "rise_40s_ratio", "mean_ratio", "p01_ratio")


def _system(found: Found, combination: Combination, system: System) -> Json:
    shed = float(np.mean([p.shed_ratio[system.name] for p in found.of(combination)]))
    return {
        "most_servers": held(found, combination, system.name),
        "most_servers_closer_slos": held(found, combination, system.name, ours=True),
        "shed_ratio": shed,
        "ceiling_ratio": experiment.ceiling_ratio(found.asked.peak_ratio, shed),
        "runs": [
            _run(found, cell)
            for piece in found.of(combination)
            for cell in piece.cells
            if cell.system.name == system.name
        ],
    }


def _run(found: Found, cell: experiment.Cell) -> Json:
    one, law = cell.score, cell.system
    return {
        "seed": cell.seed,
        "thresholds_ratio": [law.thresholds.low_ratio, law.thresholds.high_ratio, law.thresholds.brake_ratio],
        "rise_ratio": next((p.found.rise_ratio for p in found.pieces if p.found and p.found.system is law), None),
        "caps_mhz": [law.caps.low_base_mhz, law.caps.low_deep_mhz, law.caps.high_mhz, law.caps.brake_mhz],
        "domains": {
            found.domain: {
                "servers": cell.servers,
                "state_ratio": {level.value: ratio for level, ratio in one.state_ratio},
                "brakes": one.brakes,
                "brakes_upper_95": score.most_brakes(one.brakes),
                "transitions": one.transitions,
                "overbudget_j": one.overbudget_j,
                "longest_excursion_s": one.longest_excursion_s,
                "peak_ratio": one.peak_ratio,
                "energy_j": one.energy_j,
                "stranded_ratio": one.stranded_ratio,
                "refused": one.refused,
                "left_out": one.left_out,
                "slowdown_p50_ratio": {"low": one.low.p50_ratio, "high": one.high.p50_ratio},
                "slowdown_p99_ratio": {"low": one.low.p99_ratio, "high": one.high.p99_ratio},
                "ttft_slowdown_p99_ratio": {"low": one.low.ttft_p99_ratio, "high": one.high.ttft_p99_ratio},
                "slos_met": one.holds,
                "closer_slos_met": one.holds_ours,
            }
        },
    }


def write(found: Found, html: str, out_dir: Path) -> Path:
    """Write both files and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    return pages.put(out_dir, document(found), html)
