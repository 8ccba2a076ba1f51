"""A synthetic trace keeps the published statistics of the trace it stands in for."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from capstan.model.workload import Request
from capstan.replay import synth, trace

# Published figures of the first halves (README of the shared data, facts/dynamollm.md 1.3): requests, mean lengths.
PUBLISHED = {"conv": (9655, 1237, 221), "code": (5353, 2028, 28)}


@pytest.mark.parametrize("name", ["conv", "code"])
def test_rates_and_lengths_are_those_published(name: str) -> None:
    requests = synth.requests(synth.BY_NAME[name], seed=1)
    count, prompt, output = PUBLISHED[name]
    assert len(requests) == pytest.approx(count, rel=0.05)
    assert statistics.fmean(r.prompt_tokens for r in requests) == pytest.approx(prompt, rel=0.10)
    assert statistics.fmean(r.output_tokens for r in requests) == pytest.approx(output, rel=0.15)


@pytest.mark.parametrize("name", ["conv", "code"])
def test_the_load_rises_and_falls_minute_by_minute_as_published(name: str) -> None:
    shape = synth.BY_NAME[name]
    requests = synth.requests(shape, seed=2)
    for minute, count in enumerate(shape.per_minute):
        made = sum(minute * 60 <= r.arrival_s < (minute + 1) * 60 for r in requests)
        assert abs(made - count) <= 5 * max(count, 1) ** 0.5, f"minute {minute}"


def test_the_same_seed_gives_the_same_trace() -> None:
    assert synth.requests(synth.CODE, seed=5) == synth.requests(synth.CODE, seed=5)
    assert synth.requests(synth.CODE, seed=5) != synth.requests(synth.CODE, seed=6)


def test_a_trace_is_in_order_of_time_and_numbered() -> None:
    requests = synth.requests(synth.CONVERSATION, seed=1)
    assert [r.arrival_s for r in requests] == sorted(r.arrival_s for r in requests)
    assert [r.request_id for r in requests] == list(range(len(requests)))


@pytest.mark.parametrize("name", ["conv", "code"])
def test_the_tables_are_those_of_the_shared_files(name: str, shared_data: Path) -> None:
    """The constants in `synth` against the files they were taken from."""
    requests = list(trace.read(shared_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.first_half.csv"))
    shape = synth.BY_NAME[name]
    for minute, count in enumerate(shape.per_minute):
        assert _in_minute(requests, minute) == count
    for lengths, table in (
        (sorted(r.prompt_tokens for r in requests), shape.prompt_tokens),
        (sorted(r.output_tokens for r in requests), shape.output_tokens),
    ):
        taken = [lengths[min(int(q * (len(lengths) - 1)), len(lengths) - 1)] for q in synth.QUANTILES]
        assert taken == pytest.approx(table, rel=0.02, abs=1)


def _in_minute(requests: list[Request], minute: int) -> int:
    return sum(minute * 60 <= r.arrival_s < (minute + 1) * 60 for r in requests)
