"""What wrong guesses cost: placed requests beside their like."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.classes import Edges
from capstan.replay import classify, engine
from capstan.replay.runs import Routed
from capstan.replay.scores import limits, misplaced
from capstan.replay.scores.misplaced import Misplaced, Placed
from capstan.replay.seen import Service, Want
from support import small
from support.replay import SLO, Fate, fate, outcomes

EDGES = Edges()
HELD = limits.of(limits.SloSet.SCENARIO, SLO)
SHORT, MEDIUM, LONG = 10, 200, 800  # answers, tokens


def made(rows: Sequence[tuple[int, int, bool]], edges: Edges = EDGES) -> Misplaced:
    """Return what is found of (answer's tokens, guessed output bucket, whether it was good); prompts of 500."""
    fates = [_fate(i, output, good=good) for i, (output, _, good) in enumerate(rows)]
    codes = np.array([edges.outputs + guessed for _, guessed, _ in rows], dtype=np.int64)  # prompt bucket 1
    return misplaced.of(outcomes(fates), Routed(codes, edges), HELD)


def _fate(index: int, output: int, *, good: bool) -> Fate:
    return fate(float(index), ttft_s=0.5 if good else 3.0, output=output)


def test_misplaced_requests_stand_beside_well_placed_ones_of_their_class() -> None:
    """Long answers: of ten placed well nine are good. Four taken for short: one is good, at 90 % it would be 3.6."""
    rows = [(LONG, 2, i > 0) for i in range(10)] + [(LONG, 0, i == 0) for i in range(4)]
    found = made(rows)
    assert found.right == Placed(10, 9, 0.9, 0.0)
    assert found.shorter.attainment_ratio == 0.25
    assert found.shorter.like_ratio == pytest.approx(0.9)
    assert found.shorter.lost_requests == pytest.approx(2.6)
    assert found.longer == Placed(0, 0, None, None)
    assert found.accuracy_ratio == pytest.approx(10 / 14)
    assert found.confusion == ((0, 0, 0), (0, 0, 0), (4, 0, 10))


def test_their_like_is_in_the_same_mix_of_true_classes() -> None:
    """Well placed: short all good, medium half. Three short and one medium taken for long: (3 x 1 + 1 x 0.5) / 4."""
    rows = [(SHORT, 0, True)] * 4 + [(MEDIUM, 1, True), (MEDIUM, 1, False)]
    rows += [(SHORT, 2, True), (SHORT, 1, True), (SHORT, 2, False), (MEDIUM, 2, True)]
    found = made(rows)
    assert found.longer.requests == 4
    assert found.longer.like_ratio == pytest.approx(3.5 / 4)
    assert found.longer.lost_requests == pytest.approx(3.5 - 3)


def test_a_wrong_guess_that_helps_loses_less_than_nothing() -> None:
    """Medium answers fail in their own pool and do well in the stronger one: 2 good instead of none."""
    found = made([(MEDIUM, 1, False)] * 5 + [(MEDIUM, 2, True)] * 2)
    assert found.longer.lost_requests == -2.0


def test_without_a_well_placed_request_of_the_class_nothing_can_be_said() -> None:
    """Two long ones are misplaced and no long one is placed well; a short one has its like."""
    found = made([(LONG, 0, False), (LONG, 0, True), (SHORT, 0, True), (SHORT, 1, True)])
    assert found.shorter == Placed(2, 1, None, None)
    assert found.longer == Placed(1, 1, 1.0, 0.0)


def test_no_request_no_figure() -> None:
    found = misplaced.of(outcomes(), Routed(np.empty(0, np.int64), EDGES), HELD)
    assert found.accuracy_ratio is None
    assert found.right == found.shorter == found.longer == Placed(0, 0, None, None)
    assert found.right.attainment_ratio is None


@pytest.mark.parametrize(
    ("codes", "says"),
    [([3], "1 guesses for 2 requests"), ([3, 9], "outside 0 to 8"), ([-1, 3], "outside 0 to 8")],
    ids=["too few", "no such class", "below all"],
)
def test_guesses_that_cannot_be_are_a_broken_record(codes: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        misplaced.of(outcomes([fate(), fate(1.0)]), Routed(np.array(codes), EDGES), HELD)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [((SHORT, MEDIUM, LONG)[i % 3], i % 2, i % 5 > 0) for i in range(50)]
    whole = made(rows)
    monkeypatch.setattr(misplaced, "BLOCK", 7)
    assert made(rows) == whole


ROW = st.tuples(st.sampled_from([SHORT, MEDIUM, LONG]), st.integers(0, 2), st.booleans())


@given(st.lists(ROW, min_size=1, max_size=60))
def test_every_request_is_placed_once_and_good_ones_add_up(rows: list[tuple[int, int, bool]]) -> None:
    found = made(rows)
    parts = (found.right, found.shorter, found.longer)
    assert sum(part.requests for part in parts) == len(rows) == sum(map(sum, found.confusion))
    assert sum(part.good for part in parts) == sum(good for _, _, good in rows)
    assert found.right.lost_requests in (None, pytest.approx(0.0))
    assert all(part.like_ratio is None or 0 <= part.like_ratio <= 1 for part in parts)


# --- in a run ----------------------------------------------------------------------------------------


def test_a_run_remembers_by_what_guesses_its_requests_were_routed() -> None:
    """Short prompts in one pool, the others in another; answers are all taken for short ones."""
    base = small.scenario(small.requests(60))
    (service,) = base.services
    edges = service.edges
    guesses = classify.true_codes(service.requests, edges) // edges.outputs * edges.outputs
    service = dataclasses.replace(service, predicted=guesses)
    parts = (tuple(range(edges.outputs)), tuple(range(edges.outputs, edges.count)))
    wants = tuple(Want(small.KEY, 4, 1, pool=edges.pool_name(codes), classes=codes) for codes in parts)
    split = dataclasses.replace(service, start=wants[0])
    (parted,) = engine.run(dataclasses.replace(base, services=(split,)), Parted(wants)).services
    (whole,) = engine.run(dataclasses.replace(base, services=(service,)), small.Scripted({})).services
    assert whole.routed is None
    assert parted.routed is not None
    np.testing.assert_array_equal(parted.routed.codes, guesses)
    found = misplaced.of(parted.outcomes, parted.routed, HELD)
    assert found.shorter.requests == int((service.requests.output_tokens >= 100).sum()) > 0
    assert found.longer.requests == 0


@dataclasses.dataclass
class Parted(small.Scripted):
    """Two pools from the start to the end."""

    def __init__(self, wants: tuple[Want, ...]) -> None:
        super().__init__({})
        self.wants = wants

    def start(self, service: Service) -> tuple[Want, ...]:  # type: ignore[override]  # the engine takes either
        return self.wants
