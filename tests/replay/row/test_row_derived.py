"""What `polca-ours` runs with: the setting whose scarcer reserve is the larger, on the weeks before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.row import derived, experiment, generate, measure, play, report, score, systems
from capstan.replay.row.derived import FIRST, TRIED, Setting
from capstan.replay.row.score import Score, Slowdown
from support import rows

OURS = systems.named(("polca-ours",))[0]
PARTS = tuple(TRIED)


def scored(
    *, brakes: int = 0, above_j: float = 0.0, peak: float = 0.97, low: float = 0.0, low_p99: float = 0.0,
    high: float = 0.0,
) -> Score:  # fmt: skip
    """A setting as it did: brakes, joules above and its peak over the budget, p50 of both priorities and low's p99."""
    return Score(
        state_ratio=(), brakes=brakes, transitions=0, overbudget_j=above_j, longest_excursion_s=0.0, over_s=0.0,
        peak_ratio=peak, energy_j=0.0, stranded_ratio=0.0, refused=0, left_out=0, scored_s=1,
        high=Slowdown(high, 0.0, 0.0), low=Slowdown(low, low_p99, 0.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (scored(peak=0.999, low=0.049), scored(brakes=1, peak=0.95)),
        (scored(peak=0.976, low=0.015), scored(peak=0.988)),
        (scored(peak=0.988, low=0.020), scored(peak=0.970, low=0.040)),
        (scored(peak=0.970, high=0.002), scored(peak=0.970, high=0.003)),
        (scored(peak=0.940, low=0.010), scored(peak=0.970, low=0.015)),
        (scored(peak=0.994, low=0.010), scored(peak=0.994, low=0.020)),
        (scored(brakes=1, low=0.2), scored(brakes=2, low=0.01)),
        (scored(above_j=900.0, peak=1.003), scored(above_j=1000.0, peak=1.002)),
        (scored(low=0.06, low_p99=0.11), scored(low=0.07)),
        (scored(low=0.06), scored(low_p99=0.13)),
    ],
    ids=[
        "a brake is the worst", "0.3 of low's SLO rather than 0.6 of the watts", "0.6 of the watts rather than 0.8",
        "high priority's SLO counts, too", "below 97 % no watts are spent", "as scarce: the other reserve decides",
        "all brake: the fewest", "all above: the fewest joules", "all miss an SLO: 1.2 of it rather than 1.4",
        "p50 and p99 weigh by their limits: 1.2 of one rather than 1.3 of the other",
    ],
)  # fmt: skip
def test_the_scarcer_reserve_decides(better: Score, worse: Score) -> None:
    """Watts: (peak - 0.97) / 0.03. SLOs: low p50 of 5 % and p99 of 10 %, high p50 of 1 %."""
    assert derived.badness(better) < derived.badness(worse)


def costs() -> st.SearchStrategy[dict[tuple[str, float], float]]:
    """What each value of each part costs."""
    keys = [(part, value) for part, values in TRIED.items() for value in values]
    return st.fixed_dictionaries({key: st.floats(0, 10) for key in keys})


def apart(cost: dict[tuple[str, float], float]) -> Callable[[Setting], tuple[float, ...]]:
    """Badness where the worst part is all that counts, then the next: as reserves do."""
    return lambda one: tuple(sorted((cost[part, getattr(one, part)] for part in PARTS), reverse=True))


@given(costs())
def test_parts_that_do_not_hang_together_are_each_set_to_their_best(cost: dict[tuple[str, float], float]) -> None:
    """Whatever each value costs, no other value of any part would do better."""
    found, of = derived.searched(apart(cost)), apart(cost)
    for part, values in TRIED.items():
        assert cost[part, getattr(found, part)] == min(cost[part, value] for value in values)
    assert of(found) <= of(FIRST)


@given(st.integers(0, 2**32 - 1))
def test_the_search_never_ends_worse_than_it_began_nor_tries_all(salt: int) -> None:
    """Parts that hang together in any way: never worse than FIRST, and no more plays than values in all rounds."""
    seen: set[Setting] = set()

    def badness_of(one: Setting) -> tuple[float, ...]:
        seen.add(one)
        return (float(hash((salt, *(getattr(one, part) for part in PARTS))) % 97),)

    found = derived.searched(badness_of)
    assert badness_of(found) <= badness_of(FIRST)
    assert len(seen) <= 1 + derived.ROUNDS * sum(len(values) - 1 for values in TRIED.values())


def test_what_no_part_alone_betters_is_kept() -> None:
    """Where all settings did the same, the first is taken: nothing is changed for nothing."""
    assert derived.searched(lambda _: (0.0,)) == FIRST


def test_depth_is_tried_before_thresholds() -> None:
    """A row that its caps do not hold brakes at every threshold: what is tried of those would tell nothing apart."""
    assert PARTS.index("deep_ratio") < PARTS.index("high_ratio") < PARTS.index("later_ratio")
    assert FIRST.high_ratio == min(TRIED["high_ratio"])


def test_a_row_is_given_thresholds_and_caps_that_hold_it() -> None:
    """Four busy servers draw more than 17 kW without caps; what is derived is at least as good as where it began."""
    one = dataclasses.replace(rows.row(seconds=6000, budget_w=17_500), score_from_s=generate.WARM_UP_S)
    free = play.play(one, systems.UNCAPPED)
    assert free.row_w.max() > one.budget_w
    chosen = derived.of(one, OURS, free)
    assert chosen.tried > len(TRIED)
    assert chosen.system.caps.low_deep_mhz in {rows.PROFILE.clocks.snapped_mhz(1410 * x) for x in TRIED["deep_ratio"]}
    again = score.of(play.play(one, chosen.system), free, rows.SERVICES, one.budget_w, generate.WARM_UP_S)
    assert derived.badness(again) == derived.badness(chosen.before)
    assert chosen.rise_ratio > 0
    assert chosen.system.thresholds.low_ratio < chosen.system.thresholds.high_ratio < 1


def test_seeds_with_the_same_law_are_told_together_however_many_settings_it_took() -> None:
    """Three seeds, two of which were given the paper's law after 8 and 17 settings: two lines and what it took."""
    other = dataclasses.replace(OURS, caps=dataclasses.replace(OURS.caps, low_deep_mhz=975))
    found = [derived.Found(system, 0.1, scored(), tried) for system, tried in ((OURS, 8), (OURS, 17), (other, 9))]
    world, drawn = experiment.Combination(0.5, 0.5), measure.Measured(0.79, 0.07, 0.11, 0.6, 0.5)
    pieces = tuple(
        experiment.Piece(
            world, seed, 4, drawn, drawn, {}, one, (experiment.Cell(world, seed, 4, one.system, one.before),), {}
        )
        for seed, one in enumerate(found, start=1)
    )
    asked = experiment.Asked(rows.PROFILE, rows.SERVER, 18_000.0, 4, 0.79, 0.5, 1, 1, ())
    notes = report.table(report.Found("test", "row-1", asked, pieces), world, 4).notes
    told = [note for note in notes if "polca-ours" in note or "tried" in note]
    assert [note.rpartition(", in ")[2] for note in told[:2]] == ["2 of 3 seeds", "1 of 3 seeds"]
    assert "1110 MHz" in told[0]
    assert "975 MHz" in told[1]
    assert told[2] == "Settings tried for it, a seed: 8 to 17."
    alone = report.table(report.Found("test", "row-1", asked, pieces[:1]), world, 4).notes
    assert "Settings tried for it, a seed: 8." in alone
