"""Whole blocks are read to the same values as single rows, whatever stands in them, or are left to the single rows."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.traces import cells, columns, layouts, rows
from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.files import Block

NOWHERE = Path("nowhere.csv")
AZURE = layouts.places(NOWHERE, ["TIMESTAMP", "ContextTokens", "GeneratedTokens"], None)
SECONDS = layouts.places(NOWHERE, ["Timestamp", "Request tokens", "Response tokens"], None)
EITHER = layouts.places(NOWHERE, ["x", "t", "p", "o"], layouts.custom("time=t,prompt=p,output=o"))

days = st.dates(min_value=date(1700, 1, 1), max_value=date(2261, 12, 31))
clocks = st.builds("{:02}:{:02}:{:02}".format, *(st.integers(0, most) for most in (23, 59, 59)))
fractions = st.just("") | st.text("0123456789", min_size=1, max_size=9).map(".{}".format)
zones = st.sampled_from(["", "Z", "+00:00", "-07:30", "+05:45"])
iso = st.builds("{}{}{}{}".format, days, st.sampled_from([" ", "T"]), clocks, fractions)
seconds = st.builds("{}{}".format, st.integers(0, 9_000_000_000), fractions)
tokens = st.integers(1, cells.MAX_TOKENS).map(str)
odd = st.text('0123456789.,-+eZT: "\r_nai', max_size=24)


def slow(data: bytes, places: layouts.Places) -> columns.Parsed:
    """Row by row, without the check of the order."""
    made = []
    for row, line in rows._split(NOWHERE, Block(2, data)):
        time_ns = cells.time_ns(NOWHERE, row, places.layout, line[places.time])
        prompt = cells.tokens(NOWHERE, row, "prompt", line[places.prompt], least=0)
        made.append((time_ns, prompt, cells.tokens(NOWHERE, row, "output", line[places.output], least=0)))
    return rows._columns(made)


def same(left: columns.Parsed, right: columns.Parsed) -> bool:
    pairs = ((getattr(left, name), getattr(right, name)) for name in columns.Parsed.__slots__)
    return all(np.array_equal(a, b) for a, b in pairs)


@given(st.lists(st.tuples(iso, tokens, tokens), min_size=1, max_size=8), zones, st.sampled_from(["\n", "\r\n"]))
def test_azure_rows_are_taken_whole(lines: list[tuple[str, str, str]], zone: str, end: str) -> None:
    data = "".join(f"{time}{zone},{prompt},{output}{end}" for time, prompt, output in lines).encode()
    fast = columns.parsed(data, AZURE)
    assert fast is not None, "a plain block takes the fast path"
    assert same(fast, slow(data, AZURE))


@given(st.lists(st.tuples(seconds, tokens, tokens), min_size=1, max_size=8))
def test_rows_in_seconds_are_taken_whole(lines: list[tuple[str, str, str]]) -> None:
    data = "".join(f"{time},{prompt},{output}\n" for time, prompt, output in lines).encode()
    fast = columns.parsed(data, SECONDS)
    assert fast is not None
    assert same(fast, slow(data, SECONDS))


@pytest.mark.parametrize("places", [AZURE, SECONDS, EITHER], ids=["azure", "seconds", "either"])
@given(st.lists(st.lists(st.one_of(iso, seconds, tokens, odd), min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_the_fast_path_takes_the_slow_one_reads_the_same(places: layouts.Places, lines: list[list[str]]) -> None:
    """Anything at all in the cells: either both agree, or the fast path leaves it alone."""
    data = ("\n".join(",".join(line) for line in lines) + "\n").encode()
    fast = columns.parsed(data, places)
    if fast is not None:
        assert same(fast, slow(data, places))


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("2023-02-30 00:00:00", "no ISO 8601 time"),
        ("2023-11-16 24:00:00", "no ISO 8601 time"),
        ("2023-11-16 10:60:00", "no ISO 8601 time"),
        ("9999-01-01 00:00:00", "no ISO 8601 time"),
        ("2023-11-16 10:00:00.", "no ISO 8601 time"),
    ],
)
def test_a_time_that_does_not_exist_is_refused(cell: str, says: str) -> None:
    data = f"{cell},5,4\n".encode()
    assert columns.parsed(data, AZURE) is None
    with pytest.raises(TraceError, match=says):
        rows.Csv(NOWHERE, AZURE).parsed(Block(2, data))


def test_a_carriage_return_inside_a_line_is_left_to_the_slow_path() -> None:
    """In a column that nobody reads, too: the slow path refuses the row with its number."""
    assert columns.parsed(b"\r,1,1,1\n", EITHER) is None


def test_two_zones_in_one_block_are_both_understood() -> None:
    data = b"2024-05-10 00:00:00+00:00,5,4\n2024-05-10 02:00:01.5+02:00,6,4\n"
    found = rows.Csv(NOWHERE, AZURE).parsed(Block(2, data))
    assert np.diff(found.time_ns).tolist() == [1_500_000_000]


def test_order_is_kept_across_blocks() -> None:
    reader = rows.Csv(NOWHERE, SECONDS)
    reader.parsed(Block(2, b"5,1,1\n6,1,1\n"))
    with pytest.raises(TraceError, match=r"row 4, Timestamp: 5\.5 is before the row above"):
        reader.parsed(Block(4, b"5.5,1,1\n"))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**12 - 1), *(st.integers(1, 10**9 - 1) for _ in range(2)), st.lists(st.integers(0, 99))
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([", ", ","]),
)
def test_mooncake_lines_are_taken_whole_or_one_by_one_to_the_same_values(
    lines: list[tuple[int, int, int, list[int]]], separator: str
) -> None:
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    texts = [json.dumps(dict(zip(keys, line, strict=True)), separators=(separator, ": ")) for line in lines]
    fast = rows._published("".join(f"{text}\n" for text in texts).encode())
    assert (fast is not None) == (separator == ", ")
    if fast is not None:
        assert fast.time_ns.tolist() == [line[0] * 1_000_000 for line in lines]
        assert fast.prompt_tokens.tolist() == [line[1] for line in lines]
        assert fast.output_tokens.tolist() == [line[2] for line in lines]
