"""A study's tables and findings as rows of text: the terminal, the page and the docs print the same words.

Who calls it: `study.page`, `app.study`. Must not know: HTML.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.replay.pages import words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.study import finding, surface
from capstan.replay.study.finding import Finding, Verdict
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.report import Report
from capstan.replay.study.survey import Choice, Study, View

TONES = {Verdict.HOLDS: Tone.GOOD, Verdict.FAILS: Tone.BAD, Verdict.FLIPS: Tone.BAD, Verdict.OPEN: Tone.PLAIN}
STYLES = {Tone.GOOD: "green", Tone.BAD: "red", Tone.PLAIN: ""}


def best(study: Study) -> Titled:
    """Return, for each class, the least energy per token inside the SLO, where replicas may be as full as it allows."""
    view = study.nominal
    others = [other for other in study.views if other is not view]
    heads = ["tokens", "tp", "MHz", "batch", "req/s", "TTFT, ms", "TPOT, ms", "J"]
    heads += [f"J {other.response.value}" for other in others]
    rows = tuple(Row(kind.name, tuple(map(Cell, _best(view, others, kind)))) for kind in view.kinds)
    shares = ", ".join(f"{kind.name} {finding.percent(kind.share_ratio)}" for kind in view.kinds)
    notes = (
        "Tokens: mean prompt and answer. Batch: mean decoding sequences; requests a second of one replica; TTFT and "
        "TPOT at the SLO's percentile, over their limits; J: of all GPUs of the replica per output token"
        f"{_band_words(others)}.",
        f"Shares of the requests: {shares}.",
        *_misses(view),
    )
    return Titled("Least energy inside the SLO", Headed(tuple(heads), rows), notes)


def by_load(study: Study) -> Titled:
    """Return the least-energy tp and clock of one replica at each load."""
    view = study.nominal
    heads = tuple(f"{finding.percent(share)} load" for share in surface.LOADS)
    rows = tuple(Row(k.name, tuple(Cell(_short(view.at_load(k, i))) for i in range(len(heads)))) for k in view.kinds)
    note = "Tp/MHz/J per output token of one replica. Load: share of what the strongest set-up carries at full clock."
    return Titled("Least energy of one replica, by load", Headed(heads, rows), (note,))


def print_report(found: Report, console: Console) -> None:
    """Print the tables and the findings."""
    for titled in (best(found.study), by_load(found.study)):
        console.print(_table(titled))
        for note in titled.notes:
            console.print(note, style="dim", markup=False, highlight=False)
        console.print()
    for one in found.findings:
        verdict = Text(f"{one.verdict.value.capitalize()}: ", style=STYLES[TONES[one.verdict]])
        wraps = not console.is_terminal  # a terminal breaks between words, a file keeps a line whole
        console.print(verdict + Text(f"{one.statement.paper}.", style="bold"), soft_wrap=wraps, highlight=False)
        for line in _lines(one):
            console.print(f"  {line}", soft_wrap=wraps, markup=False, highlight=False)


def markdown(found: Report) -> str:
    """Return the findings as a Markdown table, as docs/explanation/knobs.md holds it."""
    rows = ["| the papers say (status) | verdict | our model says | over the band |", "|---|---|---|---|"]
    rows += [
        f"| {one.statement.paper} ({one.statement.status}) | {one.verdict.value} | {one.nominal.sentence} "
        f"| {band(one) or '-'} |"
        for one in found.findings
    ]
    return "\n".join(rows) + "\n"


def band(one: Finding) -> str:
    """Return the figure on which a finding turns under each response; empty where all say the same."""
    return one.band if len({reading.short for _, reading in one.readings}) > 1 else ""


def _lines(one: Finding) -> Iterator[str]:
    yield one.nominal.sentence
    if band(one):
        yield band(one)


def _best(view: View, others: list[View], kind: ClassLoad) -> Iterator[str]:
    yield f"{kind.load.prompt_tokens:,.0f}+{kind.load.output_tokens:,.0f}"
    choice = view.best(kind)
    if choice is None:
        yield from ("none", *("-",) * 6)
    else:
        cell = choice.cell
        yield from (str(choice.tp), f"{cell.clock_mhz:,.0f}", f"{cell.batch:,.1f}", f"{cell.arrival_rps:.2f}")
        yield f"{words.bare_ms(cell.ttft_s)}/{1e3 * kind.slo.ttft_s:,.0f}"
        yield f"{words.bare_ms(cell.tpot_s)}/{1e3 * kind.slo.tpot_s:,.0f}"
        yield f"{cell.j_per_output_token:.2f}"
    yield from (_joules(other.best(kind)) for other in others)


def _joules(choice: Choice | None) -> str:
    return "none" if choice is None else f"{choice.cell.j_per_output_token:.2f}"


def _band_words(others: list[View]) -> str:
    names = words.listed([other.response.value for other in others]) if others else ""
    return f", and at the best tp and clock under a {names} clock response" if others else ""


def _misses(view: View) -> Iterator[str]:
    """Yield what comes closest, for each class that nothing serves inside the SLO."""
    for kind in view.kinds:
        closest = view.closest(kind)
        if view.best(kind) is None and closest is not None:
            cell, over = closest.cell, finding.percent(closest.cell.stress_ratio)
            yield (
                f"{kind.name}: nothing keeps its SLO with that margin; the closest, tp {closest.tp} at "
                f"{cell.clock_mhz:,.0f} MHz, reaches {over} of a limit."
            )


def _short(choice: Choice | None) -> str:
    if choice is None:
        return "none"
    return f"{choice.tp}/{choice.cell.clock_mhz:,.0f}/{choice.cell.j_per_output_token:.2f}"


def _table(titled: Titled) -> Table:
    table = Table(title=titled.title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("class", no_wrap=True)
    for head in titled.table.heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in titled.table.rows:
        table.add_row(row.label, *(cell.text for cell in row.cells))
    return table
