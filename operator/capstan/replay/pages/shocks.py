"""How each service came through what happened to it, in rows of the table and, where that is too wide, in lines.

Who calls it: `pages.summary`, `pages.page`, `pages.document`. Must not know: HTML, terminals, what the shocks were.
"""

from __future__ import annotations

from collections.abc import Sequence

from capstan.replay.pages import words
from capstan.replay.pages.cells import Cell, Row, Tone
from capstan.replay.runs import Run
from capstan.replay.scores import compare, recovery
from capstan.replay.scores.compare import Column, Comparison
from capstan.replay.scores.recovery import Recovery
from capstan.replay.scores.score import PolicyScore


def of(run: Run, own: PolicyScore) -> tuple[Recovery, ...]:
    """Return what became of each shock in one policy; nothing for the bound, which plays no run."""
    outcomes = next((service.outcomes for service in run.services if service.policy == own.policy), None)
    if outcomes is None or run.system == compare.BOUND:
        return ()
    return recovery.of(outcomes, own.limits, run.shocks_s)


def rows(columns: Sequence[Column], own: PolicyScore) -> list[Row]:
    """Return a row per shock: seconds until the SLO is kept again, and the requests that are owed by then."""
    each = [{found.t_s: found for found in of(column.run, own)} for column in columns]
    return [
        Row(
            f"after {t_s:,.0f} s: back in, s / debt",
            tuple(_cell(found[t_s]) if t_s in found else Cell(words.NONE) for found in each),
        )
        for t_s in sorted({t_s for found in each for t_s in found})
    ]


def lines(comparison: Comparison) -> tuple[str, ...]:
    """Return a line per system and policy, where anything happened."""
    told = []
    for column in comparison.columns:
        for own in column.score.policies:
            found = of(column.run, own)
            if found:
                told.append(f"{column.run.system}, {own.policy}: {'; '.join(map(_words, found))}.")
    return tuple(told)


def _cell(found: Recovery) -> Cell:
    if found.recovered_after_s is None:
        return Cell(f"not / {found.debt_requests:,.0f}", Tone.BAD)
    return Cell(f"{found.recovered_after_s:,.0f} / {found.debt_requests:,.0f}")


def _words(found: Recovery) -> str:
    after_s = found.recovered_after_s
    back = "not back" if after_s is None else f"back in {after_s:,.0f} s"
    return f"{back} after {found.t_s:,.0f} s (debt {found.debt_requests:,.0f} requests)"
