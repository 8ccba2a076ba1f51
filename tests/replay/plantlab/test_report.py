"""What is said of power steps: each crossing judged, the blind part apart, and too little is not judged."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capstan.replay.plantlab import report
from capstan.replay.plantlab.campaign import Campaign, StepCell
from capstan.replay.plantlab.crossings import Crossing, Step
from support import plants

BACK = Crossing("row-1", from_s=0.0, back_s=2.0, blind_s=0.0, reached=True, above_ratio=0.2, peak_ratio=0.3)
NEVER = Step(())


def crossed(**changes: Any) -> Step:
    return Step((dataclasses.replace(BACK, **changes),))


def verdicts(*steps: Step) -> list[str]:
    """The verdict of the goal, then of P1 over what commands reached and over what they did not."""
    cell = StepCell("Statistical", "nominal", steps)
    found = Campaign(plants.whole(), (1,), (), (cell,), (), ())
    return [goal.verdict for goal in report.step_goals(found)]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param((crossed(), crossed()), ["kept", "kept"], id="back in two seconds"),
        pytest.param((crossed(), NEVER), ["kept", "kept"], id="half of the runs crossed"),
        pytest.param((crossed(), NEVER, NEVER), ["not judged", "kept"], id="too few of the runs crossed"),
        pytest.param((NEVER, NEVER), ["not judged"], id="nobody crossed"),
        pytest.param((crossed(back_s=7.0),), ["MISSED", "kept"], id="within P1, and later than the goal"),
        pytest.param((crossed(back_s=11.0),), ["MISSED", "MISSED"], id="later than P1"),
        pytest.param(
            (Step((BACK, dataclasses.replace(BACK, from_s=20.0, back_s=11.0))),), ["MISSED", "MISSED"],
            id="the second crossing counts like the first",
        ),
        pytest.param(
            (crossed(back_s=18.0, blind_s=17.0),), ["kept", "MISSED"], id="blind for most of it: P1 counts all of it"
        ),
        pytest.param(
            (crossed(back_s=9.0, blind_s=9.0, reached=False),), ["not judged", "kept"], id="gone before it was told"
        ),
    ],
)  # fmt: skip
def test_what_a_step_is_judged_by(steps: tuple[Step, ...], expected: list[str]) -> None:
    assert verdicts(*steps) == expected


def test_runs_that_never_crossed_are_counted_and_thin_no_figure() -> None:
    """Three runs, one of which crossed: 2 s is the p50 of it, not 0 s of all."""
    cell = StepCell("Statistical", "nominal", (crossed(), NEVER, NEVER))
    (row,) = report.steps(Campaign(plants.whole(), (1,), (), (cell,), (), ())).table.rows
    assert [one.text for one in row.cells] == [
        "1/3", "20.0", "20.0", "30.0", "2.0", "2.0", "2.0", "0.0", "2.0", "0", "0.0",
    ]  # fmt: skip


def test_a_step_in_which_nobody_crossed_has_no_figures() -> None:
    cell = StepCell("Guaranteed", "nominal", (NEVER, NEVER))
    (row,) = report.steps(Campaign(plants.whole(), (1,), (), (cell,), (), ())).table.rows
    assert [one.text for one in row.cells] == ["0/2"]
