"""Each statement of the papers against numbers made by hand: where it holds, where it does not, where none can say."""

from __future__ import annotations

import pytest

from capstan.model.slo import Slo
from capstan.replay.study import findings, on_class, on_clock, on_load, on_tp, surface
from capstan.replay.study.finding import Reading, Statement
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.surface import Line
from capstan.replay.study.survey import View
from support import study as made

U = made.line([1.3, 1.0, 0.9, 1.0, 1.2])
FALLING = made.line([1.3, 1.2, 1.1, 1.0, 0.9])
FLAT_END = made.line([1.3, 1.2, 1.1, 0.9, 0.905])  # 0.6 % up again: nothing
LOW, HIGH = on_load.LOW, on_load.HIGH


def figures(reading: Reading) -> dict[str, float]:
    return dict(reading.figures)


# --- clock -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curves", "holds", "count"),
    [
        ((U, U, FALLING), True, 2),
        ((U, FALLING), False, 1),
        ((FALLING, FLAT_END), False, 0),
        ((made.NOTHING, U), True, 1),
    ],
    ids=["two of three", "half is not most", "a rise below 1 % is none", "what is not there does not count"],
)
def test_a_u_has_a_bottom_between_its_ends(curves: tuple[Line, ...], holds: bool, count: int) -> None:
    reading = on_clock.u_load(made.view(made.sheet(loads=dict(enumerate(curves)))))
    assert reading.holds is holds
    assert figures(reading)["u_shaped"] == count
    if count:
        assert figures(reading)["bottom_median_mhz"] == 1200


def test_the_three_kinds_of_curves_are_not_mixed_up() -> None:
    view = made.view(made.sheet(batches={4.0: U, 0.5: FALLING}, loads={1: FALLING}, edge=FLAT_END))
    assert on_clock.u_batch(view).holds  # a batch of half a sequence is none
    assert on_clock.u_load(view).holds is False
    assert on_clock.u_edge(view).holds is False
    assert figures(on_clock.u_batch(view))["curves"] == 1
    assert "cheapest at their lowest clock" in on_clock.u_load(view).sentence


def test_fewer_than_five_clocks_make_no_curve() -> None:
    assert on_clock.u_edge(made.view(made.sheet(edge=made.line([1, 0.5, 1, 2, None])))).holds is None


def test_lowest_power_is_judged_on_the_last_class_and_the_largest_tp_inside_its_slo() -> None:
    """At 1.2 GHz 150 W and 1.1 J against 200 W and 1.0 J: less power, more energy. A batch that misses is not asked."""

    def pair(joules: float, watts: float, stress: float = 0.5) -> Line:
        sixteen = made.cell(1590, j_per_output_token=1.0, gpu_w=200)
        return (None, sixteen, made.cell(1200, j_per_output_token=joules, gpu_w=watts, stress_ratio=stress), None, None)

    batches = {1.0: pair(1.1, 150), 2.0: pair(1.05, 160), 4.0: pair(0.9, 150), 8.0: pair(0.5, 150, stress=1.2)}
    small = made.sheet(tp=4, batches={1.0: pair(0.1, 150)})
    reading = on_clock.lowest_power(made.view(small, made.sheet(tp=8, batches=batches)))
    assert reading.holds
    assert figures(reading) == {"energy_median_ratio": 1.05, "power_median_ratio": 0.75}
    assert "more at 2 of 3 batches" in reading.sentence
    assert on_clock.lowest_power(made.view(made.sheet(batches={1.0: pair(1.1, 150, stress=1.2)}))).holds is None


def sixteen(joules: float, rps: float) -> Line:
    """A batch whose full clock makes 1 req/s at 1 J, and whose 1,590 MHz makes this."""
    return (made.cell(1980), made.cell(1590, j_per_output_token=joules, arrival_rps=rps), None, None, None)


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        ((sixteen(0.75, 0.95), sixteen(0.79, 0.90), sixteen(0.85, 0.99)), True),
        ((sixteen(0.75, 0.95), sixteen(0.80, 0.95)), False),
        ((sixteen(0.5, 0.89), sixteen(0.5, 0.89)), False),
    ],
    ids=["two of three", "80 % is not less than 80 %", "cheap, but the throughput is gone"],
)
def test_sixteen_hundred_keeps_throughput_and_saves_a_fifth(lines: tuple[Line, ...], holds: bool) -> None:
    batches = dict(zip((1.0, 2.0, 4.0), lines, strict=False))
    assert on_clock.sixteen(made.view(made.sheet(batches=batches))).holds is holds


def test_large_batches_are_judged_by_themselves() -> None:
    view = made.view(made.sheet(batches={1.0: sixteen(0.9, 1.0), 16.0: sixteen(0.9, 1.0), 32.0: sixteen(0.7, 1.0)}))
    assert on_clock.sixteen(view).holds is False
    assert on_clock.sixteen_large(view).holds
    assert figures(on_clock.sixteen_large(view))["cases"] == 1
    assert on_clock.sixteen_large(made.view(made.sheet(batches={1.0: sixteen(0.7, 1.0)}))).holds is None


def test_a_saving_is_against_the_full_clock_of_the_same_load_inside_the_slo() -> None:
    """1 - 0.7 / 1.0 = 30 %: the 0.5 J below it misses the SLO; a load that full clock misses has no saving."""
    missing = made.cell(1200, j_per_output_token=0.5, stress_ratio=0.95)
    line = (made.cell(1980), made.cell(1590, j_per_output_token=0.7), missing, None, None)
    lost = (made.cell(1980, stress_ratio=2.0), made.cell(1590, j_per_output_token=0.1), None, None, None)
    reading = on_clock.saving(made.view(made.sheet(loads={0: line, 1: lost})))
    assert reading.holds
    assert figures(reading)["saving_median_ratio"] == pytest.approx(0.3)
    assert figures(reading)["cases"] == 1


# --- classes -----------------------------------------------------------------------------------------

LONG_PROMPT = made.kind("LS", prompt_tokens=2000, output_tokens=60)
LONG_ANSWER = made.kind("SL", prompt_tokens=140, output_tokens=440)


def slowed(kind: ClassLoad, rps: float) -> surface.Sheet:
    """A class that makes 1 req/s at full clock and this at 1,200 MHz."""
    return made.sheet(kind, batches={1.0: (made.cell(1980), None, made.cell(1200, arrival_rps=rps), None, None)})


@pytest.mark.parametrize(
    ("prompt_rps", "answer_rps", "holds"), [(0.7, 0.9, True), (0.9, 0.7, False)], ids=["as told", "reversed"]
)
def test_long_prompts_lose_more_to_a_lower_clock(prompt_rps: float, answer_rps: float, holds: bool) -> None:
    reading = on_class.long_input(made.view(slowed(LONG_ANSWER, answer_rps), slowed(LONG_PROMPT, prompt_rps)))
    assert reading.holds is holds
    assert figures(reading)["lost_long_prompt_ratio"] == pytest.approx(1 - prompt_rps)
    assert "assumption" in reading.sentence


def test_one_class_cannot_say_who_needs_the_clock() -> None:
    assert on_class.long_input(made.view(slowed(LONG_PROMPT, 0.7))).holds is None


def at(mhz: float, joules: float = 1.0) -> Line:
    """A load that one clock alone serves inside the SLO."""
    return tuple(made.cell(mhz, j_per_output_token=joules) if one == mhz else None for one in made.CLOCKS_MHZ)


@pytest.mark.parametrize(
    ("loads", "holds"),
    [({0: at(1200)}, True), ({0: at(900), 1: at(1590)}, True), ({0: at(900), 1: at(600)}, False), ({}, False)],
    ids=["at it", "below it, then above", "only below", "misses its SLO"],
)
def test_the_shortest_class_passes_the_papers_clock_on_the_smallest_tp(loads: dict[int, Line], holds: bool) -> None:
    large = made.sheet(tp=8, loads={2: at(1980)})
    assert on_class.shortest(made.view(made.sheet(tp=4, loads=loads), large)).holds is holds


def test_the_longest_class_keeps_its_slo_on_the_largest_tp_alone() -> None:
    full, none = made.line([1, 1, 1, 1, 1], arrival_rps=2.0), made.NOTHING
    alone = made.view(made.sheet(tp=4, edge=none), made.sheet(tp=8, edge=full))
    both = made.view(made.sheet(tp=4, edge=full), made.sheet(tp=8, edge=full))
    assert on_class.longest(alone).holds
    assert figures(on_class.longest(alone)) == {"capacity_tp4_rps": 0.0, "capacity_tp8_rps": 2.0}
    assert on_class.longest(both).holds is False


def test_higher_load_moves_to_a_higher_tp_or_clock() -> None:
    """Tp 4 at 900 → tp 8 at 600 is up; tp 8 at 600 → tp 8 at 1,590 is up; 1,590 → 1,200 is down."""
    small, large = made.sheet(tp=4, loads={0: at(900)}), made.sheet(tp=8, loads={1: at(600), 2: at(1590), 3: at(1200)})
    reading = on_class.higher_load(made.view(small, large))
    assert reading.holds
    assert figures(reading) == {"steps": 3, "upward": 2}
    assert on_class.higher_load(made.view(made.sheet(loads={0: at(900)}))).holds is None


def test_no_static_setting_wins_where_the_best_one_for_all_costs_more() -> None:
    """Both classes are served at 1,980 MHz for 1.2 and 1.0 J; alone the first would take 1,590 at 1.0: 20 %, shared."""
    first, second = made.kind("SS", share=0.25), made.kind("LL", share=0.75)
    serves = (made.cell(1980, j_per_output_token=1.2), made.cell(1590, j_per_output_token=1.0), None, None, None)
    view = made.view(made.sheet(first, loads={0: serves}), made.sheet(second, loads={0: at(1980)}))
    reading = on_class.no_static(view)
    assert reading.holds
    assert figures(reading) == pytest.approx({"settings": 2, "excess_mean_ratio": 0.05, "excess_worst_ratio": 0.2})


def test_one_setting_that_is_best_for_all_wins() -> None:
    view = made.view(made.sheet(made.kind("SS"), loads={0: at(1590)}), made.sheet(made.kind("LL"), loads={0: at(1590)}))
    assert on_class.no_static(view).holds is False


def test_where_no_setting_serves_all_none_wins() -> None:
    view = made.view(made.sheet(made.kind("SS"), loads={0: at(1590)}), made.sheet(made.kind("LL"), loads={0: at(1980)}))
    reading = on_class.no_static(view)
    assert reading.holds
    assert reading.short == "none keeps the SLO"
    assert "inf" not in reading.sentence


# --- batch and load ----------------------------------------------------------------------------------


def test_a_larger_batch_is_cheaper_until_the_slo_ends_it() -> None:
    """1.0, 0.6, 0.4 inside the SLO (a factor of 2.5); 0.5 beyond it does not count."""
    batches = {
        1.0: made.line([1.0] * 5),
        2.0: made.line([0.6] * 5),
        4.0: made.line([0.4] * 5),
        8.0: made.line([0.5] * 5, stress_ratio=1.1),
    }
    edge = made.line([0.35] * 5, ttft_s=1.8, tpot_s=0.05, stress_ratio=0.9)
    reading = on_load.larger_batch(made.view(made.sheet(batches=batches, edge=edge)))
    assert reading.holds
    assert figures(reading)["gain_median"] == pytest.approx(2.5)
    assert "TTFT in 1" in reading.sentence


@pytest.mark.parametrize(
    ("edge", "why"),
    [
        (made.line([1] * 5, ttft_s=0.2, tpot_s=0.09, stress_ratio=0.9), "TPOT in 1"),
        (made.line([1] * 5, stress_ratio=0.6), "room in 1"),
        (made.NOTHING, "the SLO, at any load, in 1"),
    ],
    ids=["tokens too slow", "no room for more", "never inside"],
)
def test_what_ends_the_batch_is_named(edge: Line, why: str) -> None:
    batches = {1.0: made.line([1.0] * 5), 2.0: made.line([1.2] * 5)}
    reading = on_load.larger_batch(made.view(made.sheet(batches=batches, edge=edge)))
    assert why in reading.sentence
    assert reading.holds is False  # 1.2 J after 1.0 J


def slack(low_j: float, high_j: float) -> View:
    loads: dict[int, Line] = {
        LOW: (made.cell(1980), None, None, None, made.cell(600, j_per_output_token=low_j)),
        HIGH: (made.cell(1980), made.cell(1590, j_per_output_token=high_j), None, None, None),
    }
    return made.view(made.sheet(loads=loads))


def test_slack_at_low_load_saves_more() -> None:
    reading = on_load.slack(slack(0.6, 0.9))
    assert reading.holds
    assert figures(reading) == pytest.approx({"saving_low_median_ratio": 0.4, "saving_high_median_ratio": 0.1})
    assert "600 MHz" in reading.sentence
    assert on_load.slack(slack(0.9, 0.6)).holds is False


def test_slack_needs_both_loads() -> None:
    assert on_load.slack(made.view(made.sheet(loads={LOW: made.line([1] * 5)}))).holds is None


@pytest.mark.parametrize(
    ("low_w", "holds"), [(300.0, True), (100.0, False)], ids=["three quarters of the watts", "a quarter of the watts"]
)
def test_power_is_judged_against_proportional(low_w: float, holds: bool) -> None:
    """A quarter of the load over nine tenths of it is 28 %: 100 of 400 W would be even less."""
    loads = {LOW: made.line([1] * 5, gpu_w=low_w), HIGH: made.line([1] * 5, gpu_w=400.0)}
    reading = on_load.proportional(made.view(made.sheet(loads=loads)))
    assert reading.holds is holds
    assert figures(reading)["idle_median_ratio"] == pytest.approx(115 / 400)  # the builders' loaded idle


# --- tensor parallelism ------------------------------------------------------------------------------


def pair(*, small: dict[str, float], large: dict[str, float]) -> View:
    """A batch of 1 at full clock on tp 4 and on tp 8."""
    sheets = (
        made.sheet(tp=4, batches={1.0: made.line([1] * 5, **small)}, runs_on=made.engine(4, kv_tokens=100_000)),
        made.sheet(tp=8, batches={1.0: made.line([1] * 5, **large)}, runs_on=made.engine(8, kv_tokens=300_000)),
    )
    return made.view(*sheets)


def test_a_lower_tp_draws_less() -> None:
    """4 x 300 W against 8 x 250 W: 60 %."""
    assert figures(on_tp.power(pair(small={"gpu_w": 300}, large={"gpu_w": 250}))) == {"power_median_ratio": 0.6}
    assert on_tp.power(pair(small={"gpu_w": 300}, large={"gpu_w": 250})).holds
    assert on_tp.power(pair(small={"gpu_w": 500}, large={"gpu_w": 200})).holds is False


def test_a_lower_tp_takes_fewer_gpu_seconds() -> None:
    """4 GPUs / 1 rps against 8 / 1.6: 4 to 5."""
    reading = on_tp.communication(pair(small={"arrival_rps": 1.0}, large={"arrival_rps": 1.6}))
    assert reading.holds
    assert figures(reading) == {"gpu_seconds_median_ratio": pytest.approx(0.8)}
    assert on_tp.communication(pair(small={"arrival_rps": 1.0}, large={"arrival_rps": 2.5})).holds is False


def test_a_lower_tp_is_slower_and_has_less_room() -> None:
    """100,000 against 300,000 tokens: a third with half the GPUs."""
    reading = on_tp.latency(pair(small={"tpot_s": 0.03}, large={"tpot_s": 0.02}))
    assert reading.holds
    assert figures(reading) == {"tpot_median_ratio": pytest.approx(1.5), "kv_tokens_least_ratio": pytest.approx(1 / 3)}
    assert on_tp.latency(pair(small={"tpot_s": 0.02}, large={"tpot_s": 0.03})).holds is False


# --- all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", findings.STATEMENTS, ids=lambda statement: str(statement.key))
def test_where_nothing_exists_no_statement_is_judged(statement: Statement) -> None:
    """One tp, one class, no steady state anywhere: every rule says so instead of dividing by nothing."""
    hopeless = ClassLoad("MM", 1.0, made.kind().load, Slo(0.001, 0.001))
    reading = statement.judge(made.view(made.sheet(hopeless)))
    assert reading.holds is None
    assert reading.sentence.startswith("Not judged: ")


def test_every_statement_has_a_name_of_its_own() -> None:
    keys = [statement.key for statement in findings.STATEMENTS]
    assert len(set(keys)) == len(keys)
