"""Which policy's history is made when: at most one a cycle, once a day each; and what a cycle makes of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from capstan import decide
from capstan.forecast.calendar import Calendar
from capstan.model.past import Block, Past
from capstan.replay import verify
from capstan.serving.histories import Asked, Histories
from support.builders import H100, policy, profile
from support.recording import recorded
from support.serving import SETTINGS, START_S, Stage, chat

HOURLY = Calendar(slot_s=60.0, slots_per_day=60, origin_s=0.0)
PERIODS = decide.Settings(cluster_period_s=60, pool_period_s=60, lookback_s=120, calendar=HOURLY)
PROFILES = (profile(startup_s=30),)


def told(key: str, slots: int) -> Past:
    return Past(key, (Block(0.0, 60.0, (2.0,) * slots),))


def asked(*pasts: Past) -> list[Asked]:
    return [Asked(policy(past.policy), H100, past) for past in pasts]


def names(histories: Histories, *pasts: Past) -> list[str]:
    return [told.known.policy for told in histories.of(asked(*pasts), PROFILES)]


def test_one_policy_a_cycle_and_new_ones_first() -> None:
    histories = Histories(PERIODS)
    first = [told(key, 180) for key in ("a", "b", "c")]
    assert [names(histories, *first) for _ in range(4)] == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]
    a_day_later = [told(key, 241) for key in ("a", "b", "c", "d")]
    assert names(histories, *a_day_later) == ["a", "b", "c", "d"], "the new one before those that are only old"
    ends = [one.known.tracker.last_slot for one in histories.of(asked(*a_day_later), PROFILES)]
    assert ends == [240, 179, 179, 240], "then the first of the others"


def test_a_history_is_made_again_when_a_day_is_over_and_no_sooner() -> None:
    histories = Histories(PERIODS)
    (made,) = histories.of(asked(told("a", 180)), PROFILES)
    (same,) = histories.of(asked(told("a", 239)), PROFILES)
    assert same is made
    (later,) = histories.of(asked(told("a", 241)), PROFILES)
    assert later.past.blocks[0].rates_rps == (2.0,) * 241


def test_a_past_that_is_too_short_is_looked_at_again_with_every_step() -> None:
    """Half an hour of an hour's day is needed: with 29 slots there is no template, with 30 there is."""
    histories = Histories(PERIODS)
    found = [histories.of(asked(told("a", slots)), PROFILES)[0].known.tells for slots in (10, 29, 30)]
    assert found == [False, False, True]


def test_nothing_is_known_before_prometheus_answered_and_after_a_policy_is_gone() -> None:
    histories = Histories(PERIODS)
    assert histories.of([Asked(policy("a"), H100, None)], PROFILES) == ()
    assert names(histories, told("a", 180)) == ["a"]
    assert names(histories, told("b", 180)) == ["b"]
    assert list(histories.of([], PROFILES)) == []


def test_another_start_up_is_another_horizon_and_a_history_of_the_old_one_is_not_handed_out() -> None:
    """From one slot to four: 2 x 120 s. Two policies: the second has none until its turn."""
    histories = Histories(PERIODS)
    for _ in range(2):
        names(histories, told("a", 180), told("b", 180))
    slow = (dataclasses.replace(PROFILES[0], startup_s=120.0),)
    both = asked(told("a", 180), told("b", 180))
    found = [[(t.known.policy, t.known.tracker.horizon_slots) for t in histories.of(both, slow)] for _ in range(2)]
    assert found == [[("a", 4)], [("a", 4), ("b", 4)]]


# --- in a cycle --------------------------------------------------------------------------------------


def week(end_s: float, busy_from_s: float) -> Past:
    """Nine days in slots of five minutes: quiet, and 40 rps for the two hours that begin at the same time each day."""
    end, slots = int(end_s // 300), 9 * 288
    first_s = (end - slots) * 300.0

    def rate_rps(slot: int) -> float:
        return 40.0 if (first_s + slot * 300.0 - busy_from_s) % 86_400.0 < 7200.0 else 1.0

    days = [tuple(rate_rps(day * 288 + slot) for slot in range(288)) for day in range(9)]
    return Past(
        "llm/chat", tuple(Block(first_s + number * 86_400.0, 300.0, rates) for number, rates in enumerate(days))
    )


@pytest.mark.parametrize(("lead_s", "replicas_rise"), [(100.0, True), (7 * 3600.0, False)])
async def test_replicas_are_there_before_the_load_that_came_every_day_at_this_time(
    lead_s: float, replicas_rise: bool
) -> None:
    """Nothing but the history says so, the load itself stays at 1 rps: a rise within two start-ups, or in hours."""
    stage = Stage()
    stage.apply(chat())
    await stage.tick(3)
    alone = stage.cluster.replicas("llm/chat-tp4")
    stage.history.pasts["llm/chat"] = week(START_S, START_S + lead_s)
    await stage.tick(3)
    assert (stage.cluster.replicas("llm/chat-tp4") > alone) is replicas_rise


async def test_a_record_of_decisions_that_rest_on_a_history_is_equal_when_decided_again(tmp_path: Path) -> None:
    stage = Stage()
    stage.apply(chat())
    stage.history.pasts["llm/chat"] = week(START_S, START_S + 60.0)
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 24, stage=stage)
    decided = stage.recorder.cycles[-1].decision
    assert decided.policies[0].forecast_drifted is not None, "the history was used"
    verdict = verify.of_file(path)
    assert (verdict.decisions, verdict.equal) == (24, 24), str(verdict)


async def test_a_record_whose_past_was_changed_is_told(tmp_path: Path) -> None:
    """The same decisions with another past behind them: the first difference is the forecast, or what follows."""
    stage = Stage()
    stage.apply(chat())
    stage.history.pasts["llm/chat"] = week(START_S, START_S + 60.0)
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 6, stage=stage)
    text = path.read_text()
    pasts = [line for line in text.splitlines() if line.startswith('{"past"')]
    assert len(pasts) == 1
    without = "\n".join(line for line in text.splitlines() if not line.startswith('{"past"')) + "\n"
    hashes = pasts[0].split('"')[3]
    (tmp_path / "other.jsonl").write_text(without.replace(f'"pasts":["{hashes}"]', '"pasts":[]'))
    verdict = verify.of_file(tmp_path / "other.jsonl")
    assert verdict.equal < verdict.decisions
    assert verdict.first is not None
    assert math.isfinite(verdict.first.now_s)


def test_the_stage_has_the_shipped_slots() -> None:
    assert SETTINGS.calendar.slot_s == 300.0
