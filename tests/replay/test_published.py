"""A trace drawn from published statistics keeps them, and the tables are those of the files they were taken from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capstan.replay import published, synth, traces
from capstan.replay.runs import Ints, Requests
from capstan.replay.traces import tables

# Published figures of the first halves (README of the shared data, facts/dynamollm.md 1.3): requests of the whole
# minutes, mean lengths.
PUBLISHED = {"conv": (9655, 1237, 221), "code": (5100, 2028, 28)}


def drawn(name: str, seed: int) -> Requests:
    shape = published.BY_NAME[name]
    return synth.requests(shape.rates, shape.lengths, seed=seed)


def per_minute(requests: Requests, minutes: int) -> Ints:
    return np.bincount((requests.arrival_s // 60).astype(int), minlength=minutes)[:minutes]


@pytest.mark.parametrize("name", ["conv", "code"])
def test_rates_and_lengths_are_those_published(name: str) -> None:
    requests = drawn(name, seed=1)
    count, prompt, output = PUBLISHED[name]
    assert len(requests) == pytest.approx(count, abs=5 * count**0.5)
    assert requests.prompt_tokens.mean() == pytest.approx(prompt, rel=0.10)
    assert requests.output_tokens.mean() == pytest.approx(output, rel=0.15)


@pytest.mark.parametrize("name", ["conv", "code"])
def test_the_load_rises_and_falls_minute_by_minute_as_published(name: str) -> None:
    rates = published.BY_NAME[name].rates.per_min
    made = per_minute(drawn(name, seed=2), len(rates))
    assert (np.abs(made - rates) <= 5 * np.sqrt(np.maximum(rates, 1))).all()


@pytest.mark.parametrize("name", ["conv", "code"])
def test_the_tables_are_those_of_the_shared_files(name: str, shared_data: Path) -> None:
    path = shared_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.first_half.csv"
    requests, shape = traces.read(path).requests, published.BY_NAME[name]
    assert per_minute(requests, len(shape.rates.per_min)).tolist() == shape.rates.per_min.tolist()
    for lengths, table in (
        (requests.prompt_tokens, shape.lengths.prompt_tokens),
        (requests.output_tokens, shape.lengths.output_tokens),
    ):
        taken = np.sort(lengths)[(np.array(published.QUANTILES) * (len(lengths) - 1)).astype(int)]
        assert taken.tolist() == pytest.approx(table.tolist(), rel=0.02, abs=1)


# --- the week of 2024 --------------------------------------------------------------------------------


def test_the_week_has_the_requests_that_were_published() -> None:
    """27,303,999 rows (README of the shared data); the shape's mean over a day is 1 to its three digits."""
    rates = published.WEEK.rates
    assert rates.per_min.sum() * 60 == pytest.approx(27_303_999, rel=0.002)
    assert rates.end_s == 7 * 86_400


def test_the_week_is_the_digitised_one_to_a_few_percent(shared_data: Path) -> None:
    """Seven daily means and two shapes against 168 digitised hours: 4.5 % on average, 28 % at worst."""
    folder = shared_data / "azure-llm-2024-digitised"
    found = tables.read_rates(folder / "conversation_requests_per_min.csv")
    step = np.searchsorted(found.start_s, np.arange(7 * 24 * 60) * 60.0, "right") - 1
    hourly = found.per_min[step].reshape(-1, 60).mean(axis=1)
    off = np.abs(published.WEEK.rates.per_min / hourly - 1)
    assert off.mean() < 0.05
    assert off.max() < 0.30
    daily = hourly.reshape(7, 24).mean(axis=1)
    assert daily.tolist() == pytest.approx(list(published.DAYS_PER_MIN), rel=0.01)


def test_the_weeks_lengths_are_points_of_the_digitised_ones(shared_data: Path) -> None:
    found = tables.read_lengths(shared_data / "azure-llm-2024-digitised" / "conversation_length_cdf.csv")
    shipped = published.WEEK.lengths
    place = np.searchsorted(found.cdf_ratio, shipped.cdf_ratio - 1e-9)
    assert found.prompt_tokens[place].tolist() == shipped.prompt_tokens.tolist()
    assert found.output_tokens[place].tolist() == shipped.output_tokens.tolist()
