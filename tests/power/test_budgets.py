"""Budgets over time, redundant feeds and slow meters in the loop; none delays or loosens anything."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from capstan.model.reasons import Reason
from capstan.power.meters import SlowMeters
from capstan.power.ports import Reading
from capstan.powercap import budget
from capstan.powercap.domains import Level
from support.power_loop import Site, conditions, domain

# 4 servers of 4 GPUs: AC = (16 x w + 1600) / 0.94; 100 W: 3,404 W, 400 W: 8,511 W, 500 W: 10,213 W.


def reduction(from_s: float, to_s: float, watts: int) -> dict[str, object]:
    def at(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat()

    return {"from": at(from_s), "to": at(to_s), "budgetWatts": watts}


async def test_a_reduction_ramps_is_shown_holds_and_ends() -> None:
    """From 12 kW to 9.6 kW in 900 x (12 / 9.6 - 1) = 225 s before its time: 10.67 W a second."""
    event = reduction(1400, 1600, 9600)
    site = Site(domain(budget_w=12_000, reductions=[event]))
    await site.run(170)  # until 1169; the ramp begins at 1175
    assert site.api.statuses[-1]["budgetInForceWatts"] == 12_000
    verdict = await site.run(121)  # the last tick at 1290
    assert verdict.budget.budget_w == pytest.approx(9600 * (1 + 110 / budget.RAMP_S), abs=1)
    assert conditions(site.api.statuses[-1])["BudgetReduced"] == ("True", "BudgetReduced")
    verdict = await site.run(200)
    assert (verdict.budget.budget_w, site.api.statuses[-1]["budgetInForceWatts"]) == (9600, 9600)
    verdict = await site.run(120)
    assert verdict.budget.budget_w == 12_000
    assert conditions(site.api.statuses[-1])["BudgetReduced"] == ("False", "Applied")


async def test_a_ramp_caps_by_levels_and_writes_the_safe_setting_once() -> None:
    """400 W a GPU is 70.9 % of 12 kW and 88.7 % of 9.6 kW: LowBase, then LowDeep; never Brake."""
    site = Site(domain(budget_w=12_000, reductions=[reduction(1400, 9999, 9600)]))
    site.draw(400)
    await site.run(600)
    assert [move[2] for move in site.meter.moves] == [Level.NORMAL, Level.LOW_BASE, Level.LOW_DEEP, Level.HIGH_CAP]
    assert len({str(power["safe"]) for power in site.api.caps["gpu-0"]}) == 1
    assert len(site.api.statuses) < 30, "figures that move alone are written once a minute"


async def test_arming_must_fit_the_least_that_is_declared() -> None:
    site = Site(domain(reductions=[reduction(5000, 6000, 4000)]))
    verdict = await site.run(2)
    assert not verdict.armed
    assert "4000 W" in site.message("Armed")


async def test_a_reduction_below_the_safe_sum_ramps_like_any_and_brakes_where_it_passes_it() -> None:
    """At the boards' least, 200 W, the rack draws up to (16 x 200 x 1.05 + 2000) / 0.94 = 5,702 W; 5,000 W are left.

    From 1160 on it falls by 5000 / 900 W a second. 200 W a GPU, 5,106 W, are 75 % of 6,808 W at 1375, 85 % of 6,007 W
    at 1519; at 1574 the budget passes 5,702 W, and only then is the safe setting too much.
    """
    site = Site(domain(budget_w=8_000))
    site.draw(200)
    await site.run(5)
    site.api.edit(domain(budget_w=8_000, reductions=[reduction(1700, 1800, 5000)]))
    await site.run(5)
    assert conditions(site.api.statuses[-1])["BudgetReduced"] == ("False", "AdmissionFailed")
    assert "1970-01-01T00:28:20+00:00 leaves 5000 W" in site.message("BudgetReduced")
    assert conditions(site.api.statuses[-1])["Armed"] == ("True", "Applied")
    await site.run(563)  # the last tick at 1572
    assert site.meter.moves[-1][2] is Level.HIGH_CAP
    await site.run(3)
    moves = [(move[2], move[3]) for move in site.meter.moves[1:]]
    assert moves == [
        (Level.LOW_BASE, Reason.ABOVE_LOW_THRESHOLD),
        (Level.LOW_DEEP, Reason.ABOVE_HIGH_THRESHOLD),
        (Level.HIGH_CAP, Reason.ABOVE_HIGH_THRESHOLD),
        (Level.BRAKE, Reason.ADMISSION_FAILED),
    ]
    assert conditions(site.api.statuses[-1])["Armed"] == ("True", "AdmissionFailed")
    assert conditions(site.api.statuses[-1])["BudgetReduced"] == ("True", "BudgetReduced")


async def test_a_reduction_that_the_safe_setting_fits_says_nothing() -> None:
    site = Site(domain(budget_w=12_000))
    await site.run(5)
    site.api.edit(domain(budget_w=12_000, reductions=[reduction(3000, 3600, 5800)]))
    await site.run(5)
    assert conditions(site.api.statuses[-1])["BudgetReduced"] == ("False", "Applied")
    assert site.message("BudgetReduced") == ""


FEEDS = [{"name": "a", "query": "feed_a"}, {"name": "b", "query": "feed_b"}]


async def test_a_lost_feed_halves_the_budget_at_once_and_gives_it_back_after_a_dwell() -> None:
    site = Site(domain(budget_w=24_000, feeds=FEEDS))
    site.draw(400)
    site.meters.watts = {"feed_a": 4200, "feed_b": 4300}
    verdict = await site.run(3)
    assert (verdict.step.level, verdict.budget.budget_w) == (Level.NORMAL, 24_000)
    assert site.meters.asked == {"feed_a", "feed_b"}
    site.meters.watts = {"feed_a": 5, "feed_b": 8500}
    verdict = await site.run(1)
    assert verdict.budget.budget_w == 12_000
    assert conditions(site.api.statuses[-1])["FeedsWhole"] == ("False", "FeedLost")
    assert site.api.statuses[-1]["lostFeeds"] == ["a"]
    site.meters.watts = {"feed_a": 4200, "feed_b": 4300}
    assert (await site.run(20)).budget.budget_w == 12_000
    assert (await site.run(20)).budget.budget_w == 24_000


async def test_a_restarted_controller_keeps_a_feed_lost() -> None:
    """What is usual is forgotten by a restart; what was lost is in status."""
    site = Site(domain(budget_w=24_000, feeds=FEEDS))
    site.meters.watts = {"feed_a": 1700, "feed_b": 1700}
    await site.run(3)
    site.meters.watts = {"feed_a": 0, "feed_b": 3400}
    await site.run(2)
    site.meters.watts = {}
    site.start(epoch=4)
    assert (await site.run(2)).budget.budget_w == 12_000


@pytest.mark.parametrize("problem", ["Prometheus gave no answer within 4 s", "the query yields 3 series"])
async def test_feeds_that_cannot_be_read_change_nothing_and_say_so(problem: str) -> None:
    site = Site(domain(budget_w=24_000, feeds=FEEDS))
    site.meters.watts = {"feed_a": 1700, "feed_b": 1700}
    await site.run(3)
    site.meters.problem = problem
    verdict = await site.run(3)
    assert verdict.budget.budget_w == 24_000
    assert conditions(site.api.statuses[-1])["FeedsWhole"] == ("Unknown", "NoData")
    assert problem in site.message("FeedsWhole")


METER = {"query": "pdu", "maxAgeSeconds": 60}


async def test_a_meter_that_says_more_than_the_agents_counts() -> None:
    """Fans and losses beyond the typical: 9,800 W where the agents say 8,511 W is 81.7 % of 12 kW instead of 70.9 %."""
    site = Site(domain(meter=METER))
    site.draw(400)
    site.meters.watts, site.meters.age_s = {"pdu": 9800}, 20
    verdict = await site.run(5)
    assert verdict.step.level is Level.LOW_BASE


async def test_a_meter_in_kilowatts_is_not_believed_and_told() -> None:
    site = Site(domain(meter=METER))
    site.draw(400)
    site.meters.watts = {"pdu": 8.5}
    verdict = await site.run(5)
    assert verdict.step.projected_w == pytest.approx(8511, abs=1)
    assert conditions(site.api.statuses[-1])["MeterAgrees"] == ("False", "MeterDisagrees")
    assert "not kilowatts" in site.message("MeterAgrees")


@pytest.mark.parametrize(("age_s", "reason"), [(500.0, "StaleData"), (None, "NoData")], ids=["old", "never read"])
async def test_a_meter_that_says_nothing_is_unknown_and_changes_nothing(age_s: float | None, reason: str) -> None:
    site = Site(domain(meter=METER))
    site.draw(400)
    site.meters.watts = {} if age_s is None else {"pdu": 9800}
    site.meters.age_s = age_s or 0
    verdict = await site.run(5)
    assert verdict.step.level is Level.NORMAL
    assert conditions(site.api.statuses[-1])["MeterAgrees"] == ("Unknown", reason)


async def test_a_source_that_hangs_delays_no_look_and_its_last_answer_grows_old() -> None:
    answers = iter([Reading(500.0, 1.0, 10.0), Reading(None, 0.0, 20.0, "down")])

    async def read(query: str) -> Reading:
        return next(answers)

    meters = SlowMeters(read)
    meters.ask(frozenset({"q"}))
    assert meters.said("q") is None
    await meters.turn()
    await meters.turn()
    assert meters.said("q") == Reading(500.0, 1.0, 10.0, "down")
    meters.ask(frozenset())
    await meters.turn()
    assert meters.said("q") is None, "nobody asks any more"


async def test_a_source_is_asked_a_few_things_at_once() -> None:
    under_way, most = 0, 0

    async def read(query: str) -> Reading:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Reading(1.0, 0.0, 0.0)

    meters = SlowMeters(read)
    meters.ask(frozenset(map(str, range(100))))
    await meters.turn()
    assert most <= 8
