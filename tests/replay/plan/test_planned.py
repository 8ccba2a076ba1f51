"""The planner: seconds by hand, compiled as plain, what may be armed, and what is recommended."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

from capstan.model.profile import ClockResponse
from capstan.powercap import safety
from capstan.powercap.domains import Level, Thresholds
from capstan.replay.plan import held, page, planned, report, seconds
from capstan.replay.plan.held import Declared
from capstan.replay.row import loop
from capstan.replay.runs import Floats
from support import fits

SHORT = 600


def log_of(watts: Floats, number: int = 4, **changes: object) -> tuple[Floats, loop.Log]:
    asked = fits.asked(watts, **changes)
    law, clocks = planned.set_up(asked, fits.CASE)
    return planned.played(asked, law, clocks, watts, number)


def test_below_every_threshold_the_row_draws_its_trace() -> None:
    watts = fits.day(18_000, seconds=SHORT)
    work_j, log = log_of(watts)
    assert np.array_equal(log.row_w, watts)
    assert log.level_s.tolist() == [SHORT, 0, 0, 0, 0, 0, 0]
    assert work_j[:, :-1].sum() == 0, "all work is done at full clock"


def test_a_cap_takes_its_share_of_the_watts_above_idle_after_the_path_s_delay() -> None:
    """Flat at 82 % of the budget: LowBase once, and then for good. Idle watts stay, so do those of high priority.

    The machine first looks after second 2, at a sample a second old; the cap that it asks for bites 2 s later.
    """
    watts = np.full(60, 0.82 * fits.BUDGET_W)
    _, clocks = planned.set_up(fits.asked(watts), fits.CASE)
    _, log = log_of(watts)
    idle_w = 4 * fits.SERVER.always_w(fits.DOMAIN)
    saved_w = (watts[0] - idle_w) * 0.5 * (1 - clocks.low.kept(1275))
    assert saved_w > 100
    first = int(np.argmax(log.row_w < watts))
    assert first == 5
    assert log.row_w[first:] == pytest.approx(watts[first] - saved_w)
    assert log.level_s[1] > 50


def test_compiled_and_plain_plans_are_equal_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    watts = fits.day(25_000, seconds=86_400)[20_000:22_000]
    watts[500:530] = np.nan
    fast_j, fast = log_of(watts)
    monkeypatch.setattr(planned, "_compiled", lambda: seconds.play)
    plain_j, plain = log_of(watts)
    assert np.array_equal(fast.row_w, plain.row_w, equal_nan=True)
    assert np.array_equal(fast_j, plain_j)
    assert [column.tolist() for column in fast[1:]] == [column.tolist() for column in plain[1:]]
    assert fast.level_s[4] > 0, "the brake is among what was compared"


def test_nothing_is_counted_in_a_gap() -> None:
    watts = np.full(SHORT, 1.01 * fits.BUDGET_W)
    watts[2:] = np.nan
    _, log = log_of(watts)
    assert log.level_s.sum() == 2
    assert log.over[2] == 2


def test_more_servers_draw_more_and_are_held_no_better() -> None:
    """From count to count peaks and slowdowns rise, and what may not be armed stays so."""
    found = planned.found(fits.asked(fits.day(20_000), most=8))
    counts = found.binding.counts
    assert [count.servers for count in counts] == [4, 5, 6, 7, 8]
    for one, other in itertools.pairwise(counts):
        assert other.uncapped_ratio > one.uncapped_ratio
        assert other.low.p50_ratio >= one.low.p50_ratio
        assert other.brakes + other.overbudget_j >= one.brakes
        assert one.admission.fits or not other.admission.fits
    assert found.recommended == 4
    assert counts[-1].brakes > 0


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_what_may_be_armed_is_what_the_power_side_would_admit(number: int) -> None:
    """At 100 W, the boards' least: n servers at (8 x 100 x 1.05 + 3,000) / 0.94 W, one of them at its worst case."""
    found = planned.admission(fits.SERVER, fits.DOMAIN, number)
    least_w = number * (840 + 3000) / 0.94 + 8 * 300 * 1.05 / 0.94
    assert found.fits is (least_w <= fits.BUDGET_W)
    assert found.safe_sum_w <= found.lost_node_w
    assert isinstance(found, safety.Admission)


def test_what_is_recommended_holds_in_every_case() -> None:
    watts = fits.day(16_500, seconds=43_200)
    found = planned.found(fits.asked(watts, correlated_only=False, responses=tuple(ClockResponse)))
    assert len(found.cases) == 6
    assert found.recommended == min(one.most or 0 for one in found.cases)
    assert found.binding.counts[-1].servers == 6, "the binding case tells every count"


def test_a_count_holds_only_if_nothing_speaks_against_it() -> None:
    kept = planned.found(fits.asked(fits.day(16_500))).binding.counts[0]
    assert kept.holds
    crowded = planned.admission(fits.SERVER, fits.DOMAIN, 7)
    assert not crowded.fits
    worse = (
        dataclasses.replace(kept, brakes=1),
        dataclasses.replace(kept, overbudget_j=1.0),
        dataclasses.replace(kept, admission=crowded),
        dataclasses.replace(kept, low=dataclasses.replace(kept.low, p50_ratio=0.05)),
        dataclasses.replace(kept, high=dataclasses.replace(kept.high, p99_ratio=0.05)),
    )
    assert not any(one.holds for one in worse)


def test_one_count_that_fails_ends_the_row_of_those_that_hold() -> None:
    found = planned.found(fits.asked(fits.day(16_500)))
    counts = list(found.binding.counts)
    broken = dataclasses.replace(counts[0], brakes=1)
    assert dataclasses.replace(found.binding, counts=(broken, *counts[1:])).most is None


def test_thresholds_and_caps_that_are_not_named_are_derived_from_the_first_half() -> None:
    """A jump by a fifth in the first half lowers them; the same jump in the second half has not been seen."""
    declared = Declared(fits.DOMAIN, thresholds=False, caps=False)
    calm = fits.day(noise_w=0.0)
    early, late = calm.copy(), calm.copy()
    early[20_000:20_010] *= 1.2
    late[70_000:70_010] *= 1.2
    before, seen, unseen = (
        planned.set_up(fits.asked(watts, declared=declared), fits.CASE)[0] for watts in (calm, early, late)
    )
    assert seen.domain.thresholds.high_ratio < 0.9 < before.domain.thresholds.high_ratio
    assert unseen.domain.thresholds == before.domain.thresholds
    assert held.part_s(fits.tape(calm)) == 43_200
    caps = before.domain.caps
    _, clocks = planned.set_up(fits.asked(calm), fits.CASE)
    assert clocks.low.median_slowdown_ratio[clocks.low.index(caps.low_base_mhz)] <= 0.05
    assert clocks.low.slowdown_ratio[:, clocks.low.index(caps.low_deep_mhz)].max() <= 0.50
    assert clocks.high.slowdown_ratio[:, clocks.high.index(caps.high_mhz)].max() <= 0.05
    assert clocks.low.slowdown_ratio[:, clocks.low.index(caps.low_deep_mhz) - 1].max() > 0.50, "as deep as allowed"


def test_the_report_holds_what_was_asked_for_and_no_number_that_is_none() -> None:
    """With a brake that starves servers there is a slowdown without end: null in the file, words in the table."""
    found = planned.found(fits.asked(fits.day(23_000)))
    assert found.recommended is None
    text = json.dumps(report.document(found), allow_nan=False)
    count = json.loads(text)["cases"][0]["counts"][-1]
    for key in ("brakes", "brakes_upper_95", "overbudget_j", "longest_excursion_s", "safe_sum_w", "lost_node_w"):
        assert count[key] >= 0, key
    assert sum(count["state_ratio"].values()) == pytest.approx(1)
    assert set(count["slowdown_p99_ratio"]) == {"low", "high"}
    assert count["slowdown_p99_ratio"]["low"] is None
    assert any("no end" in cell.text for row in report.counts(found).table.rows for cell in row.cells)
    assert report.sentence(found).startswith("Do not arm: not even the 4 servers of the trace hold; ")


def test_the_page_stands_alone() -> None:
    html = page.of(planned.found(fits.asked(fits.day(16_500))))
    assert html.count("<svg") == 3
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    assert "more servers fit" in html


def test_a_lower_threshold_caps_more_of_the_time() -> None:
    watts = fits.day(19_800)
    shares = []
    for low in (0.80, 0.75, 0.70):
        domain = dataclasses.replace(fits.DOMAIN, thresholds=Thresholds(low, 0.89, 1.0, 0.05))
        asked = fits.asked(watts, declared=Declared(domain, thresholds=True, caps=True))
        count = planned.counted(asked, *planned.set_up(asked, fits.CASE), watts, 4)
        shares.append(dict(count.state_ratio).get(Level.LOW_BASE, 0.0))
    assert shares == sorted(shares)
    assert shares[0] > 0
