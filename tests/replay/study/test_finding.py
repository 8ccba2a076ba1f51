"""How readings become a verdict, and how shares are written."""

from __future__ import annotations

import pytest

from capstan.model.profile import ClockResponse
from capstan.replay.study import finding
from capstan.replay.study.finding import Reading, Statement, Verdict
from capstan.replay.study.survey import View
from support import study as made

BAND = tuple(ClockResponse)


def judged(*answers: bool | None, shorts: tuple[str, ...] = ("a", "b", "c")) -> finding.Finding:
    """A finding whose readings under low, nominal, high say this."""
    said = dict(zip(BAND, zip(answers, shorts, strict=False), strict=False))

    def judge(view: View) -> Reading:
        holds, short = said[view.response]
        return Reading(holds, f"{view.response.value} says {short}.", short)

    views = (made.view(made.sheet(), response=response) for response in BAND[: len(answers)])
    return finding.of(Statement("key", "Water is wet", "[M]", judge), made.study(*views))


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ((True, True, True), Verdict.HOLDS),
        ((False, False, False), Verdict.FAILS),
        ((True, True, False), Verdict.FLIPS),
        ((False, True, True), Verdict.FLIPS),
        ((None, None, None), Verdict.OPEN),
        ((True, None, True), Verdict.OPEN),
        ((True,), Verdict.HOLDS),
        ((False,), Verdict.FAILS),
    ],
    ids=["all", "none", "not at high", "not at low", "no answer", "one without", "one response", "one, not"],
)
def test_a_statement_holds_only_over_the_whole_band(answers: tuple[bool | None, ...], verdict: Verdict) -> None:
    assert judged(*answers).verdict is verdict


def test_the_sentence_is_that_of_the_nominal_response() -> None:
    assert judged(True, True, True).nominal.sentence == "nominal says b."
    assert judged(True).nominal.sentence == "low says a."


def test_a_band_is_told_where_its_ends_differ() -> None:
    assert judged(True, True, True).band == "low a; nominal b; high c"
    assert judged(True, True, True, shorts=("a", "a", "a")).band == "a"


@pytest.mark.parametrize(
    ("ratios", "text"),
    [
        ((0.794, 0.711, 0.926), "79 % (71 to 93 %)"),
        ((0.8,), "80 %"),
        ((0.801, 0.799), "80 %"),
        ((-0.001, 0.001), "0 %"),
        ((1.5, 2.0), "175 % (150 to 200 %)"),
    ],
    ids=["three", "one", "equal once rounded", "no minus nought", "two: the mean of the middle"],
)
def test_shares_are_a_median_and_a_range(ratios: tuple[float, ...], text: str) -> None:
    assert finding.spread(ratios) == text


def test_most_is_more_than_half_of_the_cases_and_never_of_none() -> None:
    assert finding.most([True, True, False])
    assert not finding.most([True, False])
    assert not finding.most([])
