"""A written trace is read again to the same requests, same bytes for same requests, whole or absent."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay import traces
from capstan.replay.runs import Requests
from capstan.replay.traces import writer

REQUESTS = Requests(np.array([0.0, 0.25, 86_400.0, 40 * 86_400.5]), np.array([1, 1024, 20, 7]), np.array([9, 2, 3, 1]))

REQUESTS_LATER = Requests(np.array([41 * 86_400.5]), np.array([5]), np.array([5]))


def test_rows_are_azures(tmp_path: Path) -> None:
    writer.write(tmp_path / "t.csv", [REQUESTS])
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2024-01-01 00:00:00.0000000,1,9",
        "2024-01-01 00:00:00.2500000,1024,2",
        "2024-01-02 00:00:00.0000000,20,3",
        "2024-02-10 00:00:20.0000000,7,1",
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 10**15), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)), min_size=1, max_size=20
    )
)
def test_lines_are_what_python_would_write(rows: list[tuple[int, int, int]]) -> None:
    """Against datetime's own text; 10^15 ticks of 100 ns are 3 years, which 53 bits of seconds hold to the tick."""
    ticks = np.array([row[0] for row in rows])
    requests = Requests(ticks / 1e7, np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))
    expected = [
        f"{writer.START + timedelta(seconds=tick // 10**7)}.{tick % 10**7:07},{prompt},{output}"
        for tick, prompt, output in rows
    ]
    assert writer.lines(requests).decode().splitlines() == expected


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_what_was_written_is_read_again(tmp_path: Path, name: str) -> None:
    assert writer.write(tmp_path / name, [REQUESTS, REQUESTS_LATER]) == 5
    again = traces.read(tmp_path / name).requests
    assert again.arrival_s.tolist() == pytest.approx([*REQUESTS.arrival_s, *REQUESTS_LATER.arrival_s], abs=1e-7)
    assert again.prompt_tokens.tolist() == [1, 1024, 20, 7, 5]


def test_the_same_requests_are_the_same_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        writer.write(tmp_path / name, [REQUESTS])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + (
        writer.lines(REQUESTS)
    )


def test_a_run_that_dies_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("old")

    def dying() -> Iterator[Requests]:
        yield REQUESTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(path, dying())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_an_empty_part_is_no_row(tmp_path: Path) -> None:
    nobody = Requests(np.array([]), np.array([], np.int64), np.array([], np.int64))
    assert writer.write(tmp_path / "t.csv", [nobody]) == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1
