"""The past that is made for the rig's Prometheus, as a file; tests/integration has it read back by Capstan."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from rig import binaries, past

START_S = 1_790_000_000.0


def engine(*arrivals_s: float) -> past.Earlier:
    return past.Earlier("llm", "chat-tp4", "chat", [START_S + t_s for t_s in arrivals_s])


def test_earlier_cycles_come_in_order_and_end_where_the_next_begins() -> None:
    """Two cycles of 100 s before 1,000 s, with arrivals at 5 s and 60 s of each."""
    found = past.repeated([5.0, 60.0], start_s=1000.0, cycle_s=100.0, times=2)
    assert found == [805.0, 860.0, 905.0, 960.0]
    assert past.repeated([5.0], start_s=1000.0, cycle_s=100.0, times=0) == []


def test_a_scrape_counts_what_has_arrived_and_the_end_is_left_to_the_living() -> None:
    lines = list(past.exposition([engine(1, 2, 30)], since_s=START_S, until_s=START_S + 40, scrape_s=10))
    labels = '{namespace="llm",pod="chat-tp4-past-00000",engine="0",model_name="chat"}'
    assert lines[:4] == [
        f"{past.FIRST_TOKENS}{labels} 0 1790000000.000\n",
        f"{past.FIRST_TOKENS}{labels} 2 1790000010.000\n",
        f"{past.FIRST_TOKENS}{labels} 2 1790000020.000\n",
        f"{past.FIRST_TOKENS}{labels} 3 1790000030.000\n",
    ]
    assert lines[4:8] == [f"{past.WAITING}{labels} 0 {START_S + t_s:.3f}\n" for t_s in (0, 10, 20, 30)]
    assert lines[8:] == ["# EOF\n"]


def test_another_reader_of_openmetrics_takes_it_too() -> None:
    """prometheus_client is strict about order, timestamps and the end of the file."""
    batch = past.Earlier("llm", "batch-tp4", "batch", [])
    text = "".join(past.exposition([engine(1, 2), batch], since_s=START_S, until_s=START_S + 30, scrape_s=10))
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # the library has no types here
    assert {family.name for family in families} == {past.FIRST_TOKENS, past.WAITING}


def test_what_promtool_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    try:
        promtool = binaries.find(("promtool",), may_build=False)["promtool"].path
    except binaries.NotAvailable as problem:
        pytest.skip(f"no promtool: {problem}")
    with pytest.raises(past.PastError, match="promtool tsdb create-blocks-from: "):
        past.load(promtool, ["this is no metric\n"], tmp_path / "data")
    assert list(tmp_path.glob("*.om")) == []
