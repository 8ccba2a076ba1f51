"""`capstan trace`: what people see, what is written, and one sentence with exit code 2 for what cannot be used."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from capstan.__main__ import cli
from capstan.adapters import errors
from capstan.adapters.prometheus import history
from capstan.app import progress

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROWS = "".join(f"2024-01-01 00:{i // 60:02}:{i % 60:02}.5000000,{200 + i},{i + 1}\n" for i in range(300))


def capstan(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(cli, ["trace", *map(str, arguments)])


def written(folder: Path, text: str = HEADER + ROWS, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_describe_prints_figures_and_writes_the_two_tables(tmp_path: Path) -> None:
    """A request a second for five minutes: 60 a minute, gaps without variation, prompts 200 to 499, all 201 + 2 i."""
    found = capstan("describe", "--trace", written(tmp_path), "--out", tmp_path / "out", "--context-tokens", 700)
    assert found.exit_code == 0, found.output
    for says in ("300", "299.0 s", "60, 60", "CV 0.00", "349", "496", "499", "beyond a context of 700 tokens: 50"):
        assert says in found.output, says
    assert (tmp_path / "out" / "rates.csv").read_text().splitlines()[:2] == ["start_s,requests_per_min", "0,60"]
    assert (tmp_path / "out" / "lengths.csv").read_text().splitlines()[:2] == [
        "percentile,input_tokens,output_tokens",
        "0,200,1",
    ]


def test_a_description_is_drawn_and_described_again(tmp_path: Path) -> None:
    assert capstan("describe", "--trace", written(tmp_path), "--out", tmp_path).exit_code == 0
    tables = ("--rates", tmp_path / "rates.csv", "--lengths", tmp_path / "lengths.csv")
    for name in ("a.csv.gz", "b.csv.gz"):
        drawn = capstan("synth", *tables, "--seed", 7, "--out", tmp_path / name)
        assert drawn.exit_code == 0, drawn.output
        assert "drawn with seed 7" in drawn.output
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    again = capstan("describe", "--trace", tmp_path / "a.csv.gz")
    assert again.exit_code == 0, again.output
    capstan("synth", *tables, "--seed", 8, "--out", tmp_path / "c.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() != (tmp_path / "c.csv.gz").read_bytes()


def test_failed_requests_are_reported(tmp_path: Path) -> None:
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    text = header + "1,a,5,5,10,x\n2,a,5,0,5,x\n3,a,5,5,10,x\n"
    found = capstan("describe", "--trace", written(tmp_path, text))
    assert found.exit_code == 0, found.output
    assert "left out: 1 failed requests" in found.output


def test_named_columns_reach_the_reader(tmp_path: Path) -> None:
    path = written(tmp_path, "t,in,out\n0,5,6\n9,5,6\n")
    assert capstan("describe", "--trace", path, "--columns", "time=t,prompt=in,output=out").exit_code == 0
    assert "--columns time=NAME" in capstan("describe", "--trace", path).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("describe",), "either --trace FILE or --prometheus URL"),
        (("describe", "--trace", "nowhere.csv"), "nowhere.csv, file: No such file"),
        (("describe", "--trace", "."), "give a file that can be read"),
        (("describe", "--trace", "bad.csv"), "bad.csv, row 2, ContextTokens: -5 is below 1"),
        (("describe", "--trace", "cut.csv.gz"), "cut off or damaged"),
        (("describe", "--trace", "good.csv", "--columns", "a"), "write time=NAME"),
        (("describe", "--trace", "good.csv", "--out", "good.csv/x"), "give a place that can be written"),
        (("describe", "--prometheus", "http://x"), "--start: --prometheus needs a span"),
        (("describe", "--prometheus", "http://x", "--start", "today", "--end", "now"), "--start today: no ISO 8601"),
        (
            ("describe", "--prometheus", "http://x", "--start", "2026-01-02", "--end", "2026-01-01"),
            "less than one step",
        ),
        (("synth", "--rates", "bad.csv", "--lengths", "l.csv", "--seed", "1", "--out", "o"), "write start_s"),
        (("synth", "--rates", "r.csv", "--lengths", "none", "--seed", "1", "--out", "o"), "none, file"),
        (
            ("synth", "--rates", "r.csv", "--lengths", "l.csv", "--seed", "1", "--burst-cv", "0", "--out", "o"),
            "--burst-cv",
        ),
        (("synth", "--rates", "r.csv", "--lengths", "l.csv", "--seed", "1", "--out", "no/o"), "can be written"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, name="good.csv")
    written(tmp_path, HEADER + "2024-01-01 00:00:00,-5,1\n", "bad.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress((HEADER + ROWS).encode(), 0)[:4000])
    written(tmp_path, "start_s,requests_per_min\n0,60\n", "r.csv")
    written(tmp_path, "percentile,input_tokens,output_tokens\n50,100,10\n", "l.csv")
    found = capstan(*arguments)
    assert (found.exit_code, len(found.output.strip().splitlines())) == (2, 1), found.output
    assert says in found.output
    assert not (tmp_path / "o").exists()


# --- histories ---------------------------------------------------------------------------------------

SPAN = ("--prometheus", "http://x", "--start", "2026-11-20", "--end", "2026-11-20T00:03")


def test_a_history_is_described_like_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[history.Ask] = []

    def read(ask: history.Ask, told: object) -> history.Series:
        asked.append(ask)
        lengths = history.Buckets({100.0: (5.0,) * 3, float("inf"): (5.0,) * 3}, None)
        return history.Series("sum(…)", (5.0, float("nan"), 5.0), lengths, lengths)

    monkeypatch.setattr(history, "read", read)
    found = capstan("describe", *SPAN, "--selector", 'model_name="m"')
    assert found.exit_code == 0, found.output
    assert (asked[0].steps, asked[0].selector) == (3, 'model_name="m"')
    assert "requests                  10" in found.output
    assert "left out: 1 steps of 60 s without a sample" in found.output


def test_a_server_that_has_nothing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(ask: history.Ask, told: object) -> history.Series:
        raise errors.NotFound("no such metric: this and that")

    monkeypatch.setattr(history, "read", read)
    found = capstan("describe", *SPAN)
    assert found.exit_code == 2
    assert "no such metric: this and that" in found.output


def test_a_file_needs_no_prometheus_client() -> None:
    """40 MB and half a second that reading a file does not take."""
    code = "import sys, capstan.app.trace; print('prometheus_api_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- patience ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waited_s", "shown"), [(1.9, False), (2.1, True)])
def test_a_bar_appears_after_two_seconds(waited_s: float, shown: bool) -> None:
    moments_s = iter([0.0, waited_s, waited_s])
    console = Console(file=io.StringIO(), force_terminal=True)
    with progress.bar("reading", console=console, clock=lambda: next(moments_s)) as told:
        told(0.5)
        assert isinstance(told, progress.Bar)
        assert told.shown is shown


def test_no_bar_is_drawn_into_a_file() -> None:
    out = io.StringIO()
    with progress.bar("reading", console=Console(file=out), clock=iter([0.0, 9.0, 9.0]).__next__) as told:
        told(0.5)
    assert out.getvalue() == ""


def test_each_stage_has_a_bar_of_its_own_and_the_last_is_taken_away() -> None:
    """The second stage begins at 9 s: its own two seconds have not passed at 10 s."""
    moments_s = iter([0.0, 3.0, 9.0, 10.0])
    out = io.StringIO()
    with progress.stages(console=Console(file=out, force_terminal=True), clock=lambda: next(moments_s)) as told:
        told("first", 0.5)
        told("second", 0.0)
    assert "first" in out.getvalue()
    assert "second" not in out.getvalue()
