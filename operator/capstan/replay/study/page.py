"""`study.html`: one page without a network; choices, findings, then the drawings behind them.

Who calls it: `app.study`. Must not know: files.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.replay.pages import rendering, words
from capstan.replay.study import drawings, finding, tables
from capstan.replay.study.finding import Finding, Verdict
from capstan.replay.study.report import Report


@dataclass(frozen=True, slots=True)
class _Told:
    """A finding as the page shows it."""

    verdict: str
    tone: str
    paper: str
    status: str
    sentence: str
    band: str


def of(found: Report) -> str:
    """Return the HTML."""
    return rendering.html(
        "study",
        headline=found.asked.family,
        passed=True,  # the shared style asks for it: a study has no verdict of its own
        lengths=found.asked.lengths,
        sentence=counted(found.findings),
        provenance=_provenance(found),
        tables=(tables.best(found.study), tables.by_load(found.study)),
        legend=legend(found),
        findings=[_told(one) for one in found.findings],
        plots=drawings.of(found.study),
        settings=_settings(found),
    )


def counted(findings: tuple[Finding, ...]) -> str:
    """Return how many statements hold, in a sentence."""
    counts = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    told = [f"{count} {_VERBS[verdict][count > 1]}" for verdict, count in counts.items() if count]
    return f"Of {len(findings)} statements of the papers {words.listed(told)}."


_VERBS = {
    Verdict.HOLDS: ("holds", "hold"),
    Verdict.FAILS: ("does not hold", "do not hold"),
    Verdict.FLIPS: ("flips inside the clock-response band", "flip inside the clock-response band"),
    Verdict.OPEN: ("cannot be judged here", "cannot be judged here"),
}
"""Of one statement, and of several."""


def legend(found: Report) -> str:
    """Return how verdicts are to be read."""
    views = found.study.views
    over = words.listed([view.response.value for view in views])
    most = finding.percent(finding.MOST_RATIO)
    return f'Sentences: {found.study.nominal.response.value} clock response; verdicts: {over}. "Most": over {most}.'


def _told(one: Finding) -> _Told:
    statement = one.statement
    return _Told(
        verdict=one.verdict.value.capitalize(),
        tone=tables.TONES[one.verdict].value,
        paper=statement.paper,
        status=statement.status,
        sentence=one.nominal.sentence,
        band=tables.band(one),
    )


def _provenance(found: Report) -> str:
    profiles = "; ".join(words.profile(profile) for profile in found.profiles)
    return f"Modelled, not measured on GPUs: {profiles}; clock response {found.study.nominal.response.value}."


def _settings(found: Report) -> tuple[tuple[str, str], ...]:
    first, view = found.profiles[0], found.study.nominal
    return (
        ("profiles", "; ".join(words.profile(profile) for profile in found.profiles)),
        ("lengths", found.asked.lengths),
        ("SLO", found.asked.slo),
        ("margin", f"{finding.percent(view.margin)} of each limit may be used, as the planner does"),
        ("engine", f"chunks of {first.chunk_tokens} tokens, {first.max_num_seqs} sequences at once"),
        ("clock responses", words.listed([one.response.value for one in found.study.views])),
    )
