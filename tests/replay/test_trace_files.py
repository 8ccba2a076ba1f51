"""Traces are read strictly: every file that cannot be used says which row, which field and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from capstan.replay import traces

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW_1 = "2023-11-16 18:15:46.6805900,374,44\n"
ROW_2 = "2023-11-16 18:15:50.9951690,396,109\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def rows(path: Path) -> list[tuple[float, int, int]]:
    requests = traces.read(path).requests
    columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_times_count_from_the_first_row(tmp_path: Path) -> None:
    requests = rows(written(tmp_path, HEADER + ROW_1 + ROW_2))
    assert requests[0] == (0.0, 374, 44)
    assert requests[1][0] == pytest.approx(4.314579, abs=1e-9), "all seven digits count"
    assert requests[1][1:] == (396, 109)


def test_columns_are_found_by_name_and_further_ones_are_let_be(tmp_path: Path) -> None:
    text = "region,GeneratedTokens,ContextTokens,TIMESTAMP\neu,44,374,2024-05-10 00:00:00.009930+00:00\n"
    assert rows(written(tmp_path, text)) == [(0.0, 374, 44)]


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress((HEADER + ROW_1).encode()))
    assert len(traces.read(path).requests) == 1


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path) -> None:
    assert len(rows(written(tmp_path, "\ufeff" + HEADER + ROW_1))) == 1


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
    with pytest.raises(traces.TraceError) as caught:
        traces.read(path)
    error = caught.value
    assert (error.path, error.row, error.field) == (path, row, field)
    assert says in error.fix
    assert str(path) in str(error)
    assert field in str(error)
    assert len(str(error)) < 600, "a 10 MB line does not end up in the message"


def test_what_came_before_a_bad_row_was_read(tmp_path: Path) -> None:
    """Rows are streamed: the reader does not hold the file, so the error comes after the good blocks."""
    path = written(tmp_path, HEADER + ROW_1 * 3 + "2023-11-16 18:15:47,0,4\n")
    parts = traces.Stream(path, block_bytes=64).parts()
    assert next(parts).prompt_tokens[0] == 374
    with pytest.raises(traces.TraceError, match="row 5, ContextTokens"):
        list(parts)


def test_a_cut_off_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    whole = gzip.compress((HEADER + ROW_1 * 500).encode(), compresslevel=0)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(traces.TraceError, match="cut off or damaged"):
        traces.read(path)


def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROW_1).encode())[:12] + b"\xff" * 40)
    with pytest.raises(traces.TraceError, match="gzip"):
        traces.read(path)


def test_bytes_that_are_no_text_say_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(traces.TraceError, match="not UTF-8"):
        traces.read(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(traces.TraceError, match="give a file that can be read"):
        traces.read(tmp_path / "nowhere.csv")


# --- the other formats ---------------------------------------------------------------------------------

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
MOON = '{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": [0, 1, 2]}\n'


def test_burstgpt_is_known_and_its_failures_are_counted(tmp_path: Path) -> None:
    text = BURST + "5,ChatGPT,472,18,490,Conversation log\n45.5,GPT-4,1087,0,1087,API log\n118,ChatGPT,417,276,693,x\n"
    trace = traces.read(written(tmp_path, text))
    assert rows(tmp_path / "trace.csv") == [(0.0, 472, 18), (113.0, 417, 276)]
    assert trace.dropped == (traces.Dropped(1, "failed requests (no output tokens)"),)
    assert "BurstGPT" in trace.source


def test_a_burstgpt_trace_of_failures_only_has_no_request(tmp_path: Path) -> None:
    with pytest.raises(traces.TraceError, match="not one request"):
        traces.read(written(tmp_path, BURST + "5,ChatGPT,472,0,472,Conversation log\n"))


def test_mooncake_is_known_by_its_lines_and_counts_milliseconds(tmp_path: Path) -> None:
    path = written(tmp_path, MOON % (27482, 6955, 52) + MOON % (30535, 6472, 26))
    assert rows(path) == [(0.0, 6955, 52), (3.053, 6472, 26)]


@pytest.mark.parametrize(
    ("text", "row", "field", "says"),
    [
        (
            MOON % (0, 5, 4) + '{"timestamp": 1, "input_length": 5}\n',
            2,
            "output_length",
            "found timestamp, input_length",
        ),
        (MOON % (0, 5, 4) + "[1, 2]\n", 2, "timestamp, input_length, output_length", "no keys"),
        (MOON % (0, 5, 4) + "{cut", 2, "JSON", "one object per line"),
        (MOON % (9, 5, 4) + MOON % (8, 5, 4), 2, "timestamp", "before the row above"),
        (MOON % (0, 5, 0), 1, "output_length", "0 is below 1"),
        (MOON.replace("%d", "NaN", 1) % (5, 4), 1, "timestamp", "not finite"),
        (MOON.replace("%d", "true", 1) % (5, 4), 1, "timestamp", "no number"),
        (MOON.replace("%d", "-1", 1) % (5, 4), 1, "timestamp", "negative"),
        (BURST + "5,x,1,1,2,y\n4.9,x,1,1,2,y\n", 3, "Timestamp", "before the row above"),
        (BURST + "inf,x,1,1,2,y\n", 2, "Timestamp", "not finite"),
        (BURST + "1e300,x,1,1,2,y\n", 2, "Timestamp", "292 years"),
        (BURST + "5,x,1,-1,2,y\n", 2, "Response tokens", "-1 is below 0"),
        (BURST + "5,x,99999999999,1,2,y\n", 2, "Request tokens", "no length of a request"),
        ('{"a": 1}\n', 1, "timestamp, input_length, output_length", "found a"),
        ("a,b,c\n1,2,3\n", 1, "TIMESTAMP, ContextTokens, GeneratedTokens", "--columns time=NAME,prompt=NAME"),
        (MOON % (0, 5, 4) + "[" * 50_000, 2, "JSON", "one object per line"),
    ],
)
def test_bad_input_of_other_formats_names_row_field_and_fix(
    tmp_path: Path, text: str, row: int | None, field: str, says: str
) -> None:
    with pytest.raises(traces.TraceError) as caught:
        traces.read(written(tmp_path, text))
    assert (caught.value.row, caught.value.field) == (row, field)
    assert says in caught.value.fix


@pytest.mark.parametrize("times", [("0", "1.5"), ("2024-05-10 00:00:00", "2024-05-10 00:00:01.5"), ("1e0", "2.5")])
def test_columns_that_are_named_are_used_in_seconds_or_as_times(tmp_path: Path, times: tuple[str, str]) -> None:
    path = written(tmp_path, "user,out,when,in\n" + "".join(f"a,7,{when},9\n" for when in times))
    told = traces.custom("time=when,prompt=in,output=out")
    assert traces.read(path, told=told).requests.arrival_s.tolist() == [0.0, 1.5]
    assert traces.read(path, told=told).requests.prompt_tokens.tolist() == [9, 9]


def test_named_columns_that_are_not_there_say_what_was_found(tmp_path: Path) -> None:
    told = traces.custom("time=when,prompt=in,output=out")
    with pytest.raises(traces.TraceError, match="row 1, in: missing; found when, inn, out; when, in, out were asked"):
        traces.read(written(tmp_path, "when,inn,out\n"), told=told)


@pytest.mark.parametrize("spec", ["", "time=a", "time=a,prompt=b,output=", "time=a,prompt=b,output=c,extra=d", "a,b,c"])
def test_columns_are_named_in_full_or_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="write time=NAME,prompt=NAME,output=NAME"):
        traces.custom(spec)


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(traces.TraceError, match="give a file that can be read"):
        traces.read(tmp_path)


def test_the_share_that_was_read_ends_at_all_of_it(tmp_path: Path) -> None:
    told: list[float] = []
    traces.read(written(tmp_path, HEADER + ROW_1), progress=told.append)
    assert told[-1] == 1.0


# --- the shared data ---------------------------------------------------------------------------------


def test_the_shared_conversation_trace_reads_as_its_readme_says(shared_data: Path) -> None:
    requests = traces.read(shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.first_half.csv").requests
    assert len(requests) == 9739
    assert requests.arrival_s[-1] == pytest.approx(1751, abs=1)


def test_shared_data_is_found_from_any_folder_below_its_sibling(tmp_path: Path) -> None:
    (tmp_path / "shared" / "data").mkdir(parents=True)
    deep = tmp_path / "clone" / "a" / "b"
    deep.mkdir(parents=True)
    assert traces.shared_data(deep) == tmp_path / "shared" / "data"
