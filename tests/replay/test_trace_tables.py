"""The two tables of a load are read in both layouts, and a wrong one names the row, the field and the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capstan.replay import traces
from capstan.replay.traces import tables

RATES = "start_s,requests_per_min\n"
DIGITISED = "minute_of_trace,requests_per_min_mid,requests_per_min_lo,requests_per_min_hi\n"
LENGTHS = "percentile,input_tokens,output_tokens\n"
EXACT = "cdf_percent,input_tokens,output_tokens,output_tokens_exact\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_our_rates_last_as_long_as_the_step_before(tmp_path: Path) -> None:
    found = tables.read_rates(written(tmp_path, RATES + "0,10\n30,20\n"))
    assert (found.per_min.tolist(), found.end_s) == ([10, 20], 60)
    assert tables.expected(found) == 15
    assert tables.read_rates(written(tmp_path, RATES + "0,10\n")).end_s == 60


def test_the_digitised_rates_have_an_envelope_and_end_at_their_last_row(tmp_path: Path) -> None:
    found = tables.read_rates(written(tmp_path, DIGITISED + "0.0,100,80,140\n2.0,50,50,50\n"))
    assert found.start_s.tolist() == [0, 120]
    assert (found.low_per_min[0], found.high_per_min[0]) == (80, 140)
    assert found.end_s == 120
    assert tables.expected(found) == 200


def test_exact_outputs_replace_those_read_off_a_plot(tmp_path: Path) -> None:
    found = tables.read_lengths(written(tmp_path, EXACT + "50.0,914.0,42.0,41.0\n90.0,3775.0,340.0,\n"))
    assert found.cdf_ratio.tolist() == [0.5, 0.9]
    assert found.output_tokens.tolist() == [41, 340]


@pytest.mark.parametrize(
    ("read", "text", "row", "field", "says"),
    [
        (tables.read_rates, "a,b\n1,2\n", 1, "columns", "write start_s,requests_per_min or minute_of_trace"),
        (tables.read_lengths, RATES, 1, "columns", "write percentile,input_tokens,output_tokens or cdf_percent"),
        (tables.read_rates, "", 1, "columns", "found an empty line"),
        (tables.read_rates, RATES, None, "rows", "nothing below it"),
        (tables.read_rates, RATES + "0,1\n60,x\n", 3, "requests_per_min", "'x' is no number"),
        (tables.read_rates, RATES + "0,-1\n", 2, "requests_per_min", "0 or more"),
        (tables.read_rates, RATES + "0,nan\n", 2, "requests_per_min", "0 or more"),
        (tables.read_rates, RATES + "0,1e12\n", 2, "requests_per_min", "more than 6e+08"),
        (tables.read_rates, RATES + "60,1\n60,1\n", 3, "start_s", "not after the row above"),
        (tables.read_rates, RATES + "0,0\n60,0\n", None, "requests_per_min", "every rate is 0"),
        (tables.read_rates, RATES + "0\n", 2, "columns", "1 of them, the header has 2"),
        (tables.read_rates, DIGITISED + "0,5,6,7\n1,5,5,5\n", 2, "requests_per_min_mid", "outside lo and hi"),
        (tables.read_rates, DIGITISED + "0,5,5,5\n", None, "rows", "two rows"),
        (tables.read_lengths, LENGTHS + "101,5,5\n", 2, "percentile", "above 100"),
        (tables.read_lengths, LENGTHS + "50,5,5\n50,6,6\n", 3, "percentile", "not above the row before"),
        (tables.read_lengths, LENGTHS + "50,5,5\n60,6,4\n", 3, "output_tokens", "quantiles never fall"),
        (tables.read_lengths, LENGTHS + "50,0,5\n", 2, "input_tokens", "1 or more"),
        (tables.read_lengths, LENGTHS + "50,1e300,5\n", 2, "input_tokens", "no length of a request"),
        (tables.read_lengths, LENGTHS + '50,"1"x,5\n', None, "quoting", "plain comma-separated"),
    ],
)
def test_a_wrong_table_names_row_field_and_fix(
    tmp_path: Path, read: Callable[[Path], object], text: str, row: int | None, field: str, says: str
) -> None:
    with pytest.raises(traces.TraceError) as caught:
        read(written(tmp_path, text))
    assert (caught.value.row, caught.value.field) == (row, field)
    assert says in caught.value.fix


def test_a_table_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(traces.TraceError, match="give a file that can be read"):
        tables.read_rates(tmp_path / "none.csv")
