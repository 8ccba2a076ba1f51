"""Traces are read strictly: every file that cannot be used says which row, which field and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from capstan.model.workload import Request
from capstan.replay import trace
from support.replay import poisson

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW_1 = "2023-11-16 18:15:46.6805900,374,44\n"
ROW_2 = "2023-11-16 18:15:50.9951690,396,109\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_times_count_from_the_first_row(tmp_path: Path) -> None:
    first, second = trace.read(written(tmp_path, HEADER + ROW_1 + ROW_2))
    assert first == Request(0, 0.0, 374, 44)
    assert second.arrival_s == pytest.approx(4.314579, abs=2e-6)
    assert (second.prompt_tokens, second.output_tokens) == (396, 109)


def test_columns_are_found_by_name_and_further_ones_are_let_be(tmp_path: Path) -> None:
    text = "region,GeneratedTokens,ContextTokens,TIMESTAMP\neu,44,374,2024-05-10 00:00:00.009930+00:00\n"
    assert list(trace.read(written(tmp_path, text))) == [Request(0, 0.0, 374, 44)]


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress((HEADER + ROW_1).encode()))
    assert len(list(trace.read(path))) == 1


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path) -> None:
    assert len(list(trace.read(written(tmp_path, "\ufeff" + HEADER + ROW_1)))) == 1


@pytest.mark.parametrize(
    ("text", "row", "field", "says"),
    [
        ("TIMESTAMP,Prompt,GeneratedTokens\n" + ROW_1, 1, "ContextTokens", "found TIMESTAMP, Prompt, GeneratedTokens"),
        ("", 1, "TIMESTAMP, ContextTokens, GeneratedTokens", "found an empty line"),
        (HEADER, None, "rows", "not one request"),
        (HEADER + ROW_1 + "2023-11-16 18:15:47,-5,4\n", 3, "ContextTokens", "-5 is below 1"),
        (HEADER + "2023-11-16 18:15:47,5,0\n", 2, "GeneratedTokens", "0 is below 1"),
        (HEADER + "2023-11-16 18:15:47,nan,4\n", 2, "ContextTokens", "'nan' is no whole number"),
        (HEADER + "2023-11-16 18:15:47,5,inf\n", 2, "GeneratedTokens", "'inf' is no whole number"),
        (HEADER + "2023-11-16 18:15:47,5,1e3\n", 2, "GeneratedTokens", "'1e3' is no whole number"),
        (HEADER + "yesterday,5,4\n", 2, "TIMESTAMP", "'yesterday' is no ISO 8601 time"),
        (HEADER + ROW_2 + ROW_1, 3, "TIMESTAMP", "before the row above; sort the file"),
        (HEADER + "2023-11-16 18:15:47,5\n", 2, "columns", "only 2 of them"),
        (HEADER + "\n" + ROW_1, 2, "columns", "only 0 of them"),
        (HEADER + ROW_1 + "9" * 10_000_000, 3, "line", "longer than 4096 characters"),
        ("x" * 10_000_000, 1, "line", "longer than 4096 characters"),
        (HEADER + '"2023-11-16 18:15:47"x,5,4\n', None, "quoting", "plain comma-separated values"),
    ],
    ids=[
        "a missing column",
        "an empty file",
        "zero rows",
        "a negative number",
        "zero tokens",
        "NaN",
        "infinity",
        "a float",
        "no time",
        "unordered times",
        "a short row",
        "a blank row",
        "10 MB in one row",
        "10 MB in the header",
        "broken quotes",
    ],
)
def test_bad_input_names_row_field_and_fix(tmp_path: Path, text: str, row: int | None, field: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(trace.TraceError) as caught:
        list(trace.read(path))
    error = caught.value
    assert (error.path, error.row, error.field) == (path, row, field)
    assert says in error.fix
    assert str(path) in str(error)
    assert field in str(error)
    assert len(str(error)) < 600, "a 10 MB line does not end up in the message"


def test_what_came_before_a_bad_row_was_read(tmp_path: Path) -> None:
    """Rows are streamed: the reader does not hold the file, so the error comes after the good rows."""
    rows = trace.read(written(tmp_path, HEADER + ROW_1 + "2023-11-16 18:15:47,0,4\n"))
    assert next(rows).prompt_tokens == 374
    with pytest.raises(trace.TraceError, match="row 3, ContextTokens"):
        next(rows)


def test_a_cut_off_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    whole = gzip.compress((HEADER + ROW_1 * 500).encode(), compresslevel=0)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(trace.TraceError, match="cut off or damaged"):
        list(trace.read(path))


def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROW_1).encode())[:12] + b"\xff" * 40)
    with pytest.raises(trace.TraceError, match="gzip"):
        list(trace.read(path))


def test_bytes_that_are_no_text_say_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(trace.TraceError, match="not UTF-8"):
        list(trace.read(path))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(trace.TraceError, match="give a file that can be read"):
        list(trace.read(tmp_path / "nowhere.csv"))


# --- compression -------------------------------------------------------------------------------------


def test_compression_keeps_rates_and_lengths_and_shortens_time() -> None:
    """8 times faster, one in eight kept: 8,000 requests at 5 rps over 1,600 s become ~1,000 at 5 rps over 200 s."""
    requests = poisson(8000, rate_rps=5.0)
    short = trace.compress(requests, 8.0, seed=1)
    assert len(short) == pytest.approx(1000, rel=0.12)  # a binomial: 30 is one sigma
    assert short[-1].arrival_s == pytest.approx(requests[-1].arrival_s / 8, rel=0.02)
    assert [r.request_id for r in short] == list(range(len(short)))
    assert {(r.prompt_tokens, r.output_tokens) for r in short} <= {(r.prompt_tokens, r.output_tokens) for r in requests}


def test_the_seed_decides_which_requests_stay() -> None:
    requests = poisson(500, rate_rps=5.0)
    assert trace.compress(requests, 4.0, seed=3) == trace.compress(requests, 4.0, seed=3)
    assert trace.compress(requests, 4.0, seed=3) != trace.compress(requests, 4.0, seed=4)


def test_factor_one_leaves_a_trace_as_it_is() -> None:
    requests = poisson(100, rate_rps=5.0)
    assert trace.compress(requests, 1.0, seed=9) == requests


@pytest.mark.parametrize(("factor", "rate"), [(0.5, 1.0), (2.0, 2.5), (2.0, 0.0), (float("nan"), 1.0)])
def test_more_requests_than_the_trace_has_cannot_be_kept(factor: float, rate: float) -> None:
    with pytest.raises(ValueError, match="thinning needs"):
        trace.compress([], factor, rate_ratio=rate, seed=1)


# --- the shared data ---------------------------------------------------------------------------------


def test_the_shared_conversation_trace_reads_as_its_readme_says(shared_data: Path) -> None:
    requests = list(trace.read(shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.first_half.csv"))
    assert len(requests) == 9739
    assert requests[-1].arrival_s == pytest.approx(1751, abs=1)


def test_shared_data_is_found_from_any_folder_below_its_sibling(tmp_path: Path) -> None:
    (tmp_path / "shared" / "data").mkdir(parents=True)
    deep = tmp_path / "clone" / "a" / "b"
    deep.mkdir(parents=True)
    assert trace.shared_data(deep) == tmp_path / "shared" / "data"
