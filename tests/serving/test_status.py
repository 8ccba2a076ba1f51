"""When a status is written, what it says of change, and which Events go with it."""

from __future__ import annotations

from typing import Any

import pytest

from capstan.model.reasons import Reason
from capstan.serving import conditions, status
from capstan.serving.conditions import Condition, Type

BASE: dict[str, Any] = {
    "observedGeneration": 1,
    "plan": {"summary": "2xtp4@1410MHz", "replicasReason": "NoChangeNeeded"},
    "observed": {"powerWatts": 10_000},
    "conditions": [{"type": "SLOMet", "status": "True", "reason": "Met", "message": "", "observedGeneration": 1}],
}


@pytest.mark.parametrize(
    ("change", "age_s", "due"),
    [
        ({}, 1e9, False),
        ({"plan": {**BASE["plan"], "summary": "3xtp4"}}, 0, True),
        ({"plan": {**BASE["plan"], "replicasReason": "CoolingDown"}}, 0, True),
        ({"observedGeneration": 2}, 0, True),
        ({"conditions": [{**BASE["conditions"][0], "reason": "AtRisk"}]}, 0, True),
        ({"conditions": [{**BASE["conditions"][0], "message": "other words"}]}, 1e9, False),
        ({"observed": {"powerWatts": 10_400}}, 1e9, False),
        ({"observed": {"powerWatts": 10_600}}, 59, False),
        ({"observed": {"powerWatts": 10_600}}, 60, True),
        ({"observed": {}}, 60, True),
        ({"advice": {"summary": "1xtp8", "expected": {"powerWatts": 9_000}}}, 0, True),
    ],
    ids=[
        "nothing",
        "plan",
        "reason",
        "generation",
        "condition-reason",
        "only-words",
        "figures-by-4-percent",
        "figures-by-6-percent-too-soon",
        "figures-by-6-percent-after-a-minute",
        "figures-lost",
        "advice",
    ],
)
def test_what_is_worth_a_write(change: dict[str, object], age_s: float, due: bool) -> None:
    assert status.due(BASE, {**BASE, **change}, age_s=age_s) is due


@pytest.mark.parametrize(
    ("advice", "age_s", "due"),
    [
        ({"summary": "1xtp8", "expected": {"powerWatts": 9_100}}, 1e9, False),
        ({"summary": "1xtp8", "expected": {"powerWatts": 9_900}}, 59, False),
        ({"summary": "1xtp8", "expected": {"powerWatts": 9_900}}, 60, True),
        ({"summary": "2xtp4", "expected": {"powerWatts": 9_000}}, 0, True),
        ({"summary": "1xtp8", "reason": "PowerLimited", "expected": {"powerWatts": 9_000}}, 0, True),
    ],
    ids=["as good as equal", "other watts too soon", "other watts after a minute", "another plan", "another reason"],
)
def test_advice_is_news_and_its_figures_only_ride_along(advice: dict[str, object], age_s: float, due: bool) -> None:
    before = {**BASE, "advice": {"summary": "1xtp8", "expected": {"powerWatts": 9_000}}}
    assert status.due(before, {**before, "advice": advice}, age_s=age_s) is due


def test_a_transition_time_moves_only_with_the_status() -> None:
    first = conditions.merged((), [Condition(Type.SLO_MET, True, Reason.MET)], generation=1, now_s=1000)
    risk = conditions.merged(tuple(first), [Condition(Type.SLO_MET, True, Reason.AT_RISK)], generation=2, now_s=2000)
    assert risk[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert risk[0]["observedGeneration"] == 2
    lost = conditions.merged(tuple(risk), [Condition(Type.SLO_MET, False, Reason.VIOLATED)], generation=2, now_s=3000)
    assert lost[0]["lastTransitionTime"] != first[0]["lastTransitionTime"]


def before(kind: Type, word: str, reason: Reason) -> tuple[dict[str, object], ...]:
    return ({"type": kind.value, "status": word, "reason": reason.value},)


@pytest.mark.parametrize(
    ("was", "now", "news"),
    [
        ((), Condition(Type.SLO_MET, True, Reason.MET), False),
        ((), Condition(Type.ENGINE_READY, False, Reason.INVALID_TEMPLATE), True),
        ((), Condition(Type.READY, False, Reason.STARTING), False),
        (before(Type.SLO_MET, "True", Reason.MET), Condition(Type.SLO_MET, False, Reason.VIOLATED), True),
        (before(Type.SLO_MET, "False", Reason.VIOLATED), Condition(Type.SLO_MET, True, Reason.MET), True),
        (before(Type.SLO_MET, "True", Reason.MET), Condition(Type.SLO_MET, None, Reason.NO_TRAFFIC), False),
        (before(Type.SLO_MET, "Unknown", Reason.UNKNOWN), Condition(Type.SLO_MET, True, Reason.MET), False),
        (before(Type.PAUSED, "False", Reason.NO_CHANGE_NEEDED), Condition(Type.PAUSED, True, Reason.PAUSED), True),
        (before(Type.PROGRESSING, "False", Reason.APPLIED), Condition(Type.PROGRESSING, True, Reason.STARTING), False),
        (
            before(Type.METRICS_AVAILABLE, "False", Reason.SOURCE_DOWN),
            Condition(Type.METRICS_AVAILABLE, False, Reason.LABEL_MISMATCH),
            True,
        ),
        (
            before(Type.METRICS_AVAILABLE, "False", Reason.SOURCE_DOWN),
            Condition(Type.METRICS_AVAILABLE, False, Reason.SOURCE_DOWN),
            False,
        ),
    ],
    ids=[
        "good-from-the-start",
        "bad-from-the-start",
        "starting-is-daily-life",
        "turned-bad",
        "recovered",
        "no-longer-known",
        "known-again-and-good",
        "paused",
        "progress-is-daily-life",
        "bad-for-another-reason",
        "still-bad",
    ],
)
def test_which_conditions_become_events(was: tuple[dict[str, object], ...], now: Condition, news: bool) -> None:
    assert bool(conditions.transitions(was, [now])) is news
