"""A trace in figures: each against a hand calculation, and the two tables against the trace that they stand for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from capstan.replay import synth, traces
from capstan.replay.runs import Requests
from capstan.replay.traces import describe, tables


def made(arrival_s: list[float], prompt: int = 10, output: int = 5) -> Requests:
    count = len(arrival_s)
    return Requests(np.array(arrival_s), np.full(count, prompt), np.full(count, output))


def test_rates_are_counted_minute_by_minute() -> None:
    """Minutes of 3, 0 and 2 requests and a last one of 1 after half a minute: 6 in 210 s."""
    found = describe.describe(made([0, 1, 59.9, 120, 179, 210]))
    assert found.duration_s == 210
    assert found.mean_per_min == pytest.approx(6 / 3.5)
    assert (found.peak_per_min, found.floor_per_min) == (3, 0)
    assert found.dispersion == pytest.approx(np.var([3, 0, 2]) / np.mean([3, 0, 2]))
    assert found.rates.per_min.tolist() == [3, 0, 2, 2], "one request in half a minute"
    assert found.rates.end_s == 210


def test_the_variation_of_gaps() -> None:
    """Gaps 1, 3, 1, 3: mean 2, deviation 1."""
    assert describe.describe(made([0, 1, 4, 5, 8])).gap_cv == pytest.approx(0.5)


def test_a_rate_that_moves_is_no_burst() -> None:
    """Arrivals as by a clock, ten times as dense every other minute: gaps vary, at steady rate they do not."""
    dense, sparse = np.arange(0, 60, 0.05), np.arange(0, 60, 0.5)
    arrival_s = np.concatenate([(dense, sparse)[i % 2] + 60 * i for i in range(20)])
    found = describe.describe(made(arrival_s.tolist()))
    assert found.gap_cv > 0.7
    assert found.burst_cv < 0.02


def test_a_class_holds_its_lower_bound() -> None:
    """DESIGN 7.1: edges 256 and 1024 of the input, 100 and 350 of the output, lower bound included."""
    prompts, outputs = [255, 256, 1023, 1024, 1], [99, 100, 349, 350, 350]
    requests = Requests(np.arange(5.0), np.array(prompts), np.array(outputs))
    mix = {share.name: share.requests for share in describe.classes(requests)}
    assert mix == {"SS": 1, "SM": 0, "SL": 1, "MS": 0, "MM": 2, "ML": 0, "LS": 0, "LM": 0, "LL": 1}


def test_quantiles_are_lengths_that_occurred() -> None:
    requests = Requests(np.arange(10.0), np.arange(10, 110, 10), np.arange(1, 11))
    found = describe.quantiles(requests, (0.0, 0.5, 0.9, 1.0))
    assert found.prompt_tokens.tolist() == [10, 50, 90, 100]
    assert found.output_tokens.tolist() == [1, 5, 9, 10]


@pytest.mark.parametrize("arrival_s", [[0.0], [0.0, 0.0], [0.0, 60.0]], ids=["one", "two at once", "on the edge"])
def test_the_smallest_traces_have_no_absurd_figures(arrival_s: list[float]) -> None:
    found = describe.describe(made(arrival_s))
    assert found.requests == len(arrival_s)
    assert math.isnan(found.gap_cv) or found.gap_cv == 0
    assert found.rates.end_s > found.rates.start_s[-1]
    assert tables.expected(found.rates) == pytest.approx(len(arrival_s))


def test_a_span_of_centuries_is_a_wrong_unit() -> None:
    with pytest.raises(ValueError, match="unit of its times"):
        describe.describe(made([0, 1e9]))


# --- there and back ----------------------------------------------------------------------------------


def through_files(found: describe.Description, folder: Path) -> tuple[tables.Rates, tables.Lengths]:
    tables.write_rates(folder / "rates.csv", found.rates)
    tables.write_lengths(folder / "lengths.csv", found.lengths)
    return tables.read_rates(folder / "rates.csv"), tables.read_lengths(folder / "lengths.csv")


def test_the_tables_survive_their_files(tmp_path: Path) -> None:
    found = describe.describe(made([0, 1, 59.9, 120, 179, 210.25]))
    rates, lengths = through_files(found, tmp_path)
    assert rates.start_s.tolist() == [0, 60, 120, 180, 210.25], "the last row closes the trace"
    assert rates.per_min[:-1].tolist() == pytest.approx(found.rates.per_min.tolist())
    assert rates.per_min[-1] == 0
    assert tables.expected(rates) == pytest.approx(6)
    assert lengths.cdf_ratio.tolist() == pytest.approx(list(describe.TABLE))


@pytest.mark.parametrize(("name", "peak", "burst"), [("conv", 0.10, 0.10), ("code", 0.30, 0.35)])
def test_a_trace_drawn_from_its_description_is_like_it(
    name: str, peak: float, burst: float, shared_data: Path, tmp_path: Path
) -> None:
    """Rates and lengths come back; class mix only where input and output are nearly independent (code).

    Code's peak is drawn a fifth too high: its busiest minute was itself a draw of a bursty process, and bursts are
    drawn around it again (gaps of CV 6.6 make a minute of 632 vary by 6.6 x sqrt(632) = 166).
    """
    path = shared_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.first_half.csv"
    before = describe.describe(traces.read(path).requests)
    rates, lengths = through_files(before, tmp_path)
    again = [
        describe.describe(synth.requests(rates, lengths, seed=seed, burst_cv=before.burst_cv)) for seed in range(5)
    ]
    for figure, rel in (
        ("requests", 0.04), ("duration_s", 0.03), ("mean_per_min", 0.05), ("peak_per_min", peak),
        ("prompt_mean_tokens", 0.03), ("output_mean_tokens", 0.05), ("dispersion", 0.35), ("burst_cv", burst),
    ):  # fmt: skip
        mean = np.mean([getattr(one, figure) for one in again])
        assert mean == pytest.approx(getattr(before, figure), rel=rel), figure
    for ratio in (0.5, 0.9, 0.99):
        i = describe.TABLE.index(ratio)
        for column in ("prompt_tokens", "output_tokens"):
            mean = np.mean([getattr(one.lengths, column)[i] for one in again])
            assert mean == pytest.approx(getattr(before.lengths, column)[i], rel=0.1, abs=2), (column, ratio)
    if name == "code":
        mixes = np.array([[share.ratio for share in one.classes] for one in again]).mean(axis=0)
        assert mixes.tolist() == pytest.approx([share.ratio for share in before.classes], abs=0.02)


def test_the_shared_traces_are_as_their_readme_says(shared_data: Path) -> None:
    """Whole-trace facts of the README, on the half that is here: conversation CV 1.1, code CV 13 and peak 632."""
    folder = shared_data / "azure-llm-2023"
    conversation, code = (
        describe.describe(traces.read(folder / f"AzureLLMInferenceTrace_{name}.first_half.csv").requests)
        for name in ("conv", "code")
    )
    assert conversation.gap_cv == pytest.approx(1.1, abs=0.1)
    assert code.gap_cv == pytest.approx(13, abs=1)
    assert code.peak_per_min == 632
    assert code.floor_per_min == 0
