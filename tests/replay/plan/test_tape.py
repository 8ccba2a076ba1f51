"""A power trace is read strictly and laid on seconds: what cannot be used says which row, which column, what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from capstan.replay.plan import plausible, tape
from capstan.replay.traces.errors import TraceError
from support import fits

HEADER = "time_s,watts\n"
MINUTES = [f"{60 * i},{15_000 + i}" for i in range(1500)]  # 25 hours


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "watts.csv"
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return path


def with_row(number: int, line: str) -> list[str]:
    return [*MINUTES[:number], line, *MINUTES[number + 1 :]]


def test_a_sample_stands_until_the_next(tmp_path: Path) -> None:
    found = tape.read(written(tmp_path, *MINUTES))
    assert found.watts[[0, 59, 60, 119, 120]].tolist() == [15_000, 15_000, 15_001, 15_001, 15_002]
    assert (found.period_s, found.samples, found.lost, found.heard_s) == (60.0, 1500, 0, 1500 * 60), (
        "the last one for a period, as the others"
    )


def test_several_samples_in_a_second_are_their_mean_and_one_without_a_value_is_a_gap() -> None:
    rows = np.array([[0.0, 100.0], [0.5, 200.0], [1.0, np.nan], [2.0, 0.0], [3.0, 400.0], [200_000.0, 1.0]])
    watts = tape._held(rows[:, 0], np.where(rows[:, 1] >= 1, rows[:, 1], np.nan), 1.0)
    assert watts[:5].tolist() == pytest.approx([150.0, np.nan, np.nan, 400.0, 400.0], nan_ok=True)
    assert np.isnan(watts[63:200_000]).all(), "a minute after the last sample nothing stands any more"
    assert watts[62] == 400.0


@pytest.mark.parametrize("kind", ["iso", "gzip", "quoted", "more columns", "empty cells", "windows"])
def test_the_same_watts_from_every_way_to_write_them(tmp_path: Path, kind: str) -> None:
    plain = tape.read(written(tmp_path, *MINUTES))
    cells = [line.split(",") for line in MINUTES]
    lines, header = MINUTES, HEADER
    if kind == "iso":
        lines = [
            f"2026-01-{1 + int(t) // 86_400:02}T{int(t) // 3600 % 24:02}:{int(t) // 60 % 60:02}:00Z,{w}"
            for t, w in cells
        ]
    if kind == "quoted":
        lines = [f'"{t}","{w}"' for t, w in cells]
    if kind == "more columns":
        lines, header = [f"pdu-1,{w},{t}" for t, w in cells], "meter,watts,time_s\n"
    if kind == "windows":
        lines = [f"{line}\r" for line in MINUTES]
    if kind == "empty cells":
        lines = with_row(3, "180,")
    path = written(tmp_path, *lines, header=header)
    if kind == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = tape.read(path)
    if kind == "empty cells":
        assert np.isnan(found.watts[180:240]).all()
        assert found.lost == 1
    else:
        assert np.array_equal(found.watts, plain.watts)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (with_row(10, "600,-5"), "row 12, watts: -5 is no draw"),
        (with_row(10, "600,inf"), "row 12, watts: inf is no draw"),
        (with_row(10, "600,much"), "row 12, watts: 'much' is no number"),
        (with_row(10, "600"), "row 12, columns: only 1 of them"),
        (with_row(10, "540,1"), "row 12, time_s: 540 is not after the row above; sort the file"),
        (with_row(10, "nan,15000"), "row 12, time_s: 'nan' is not finite"),
        (with_row(10, "noon,15000"), "row 12, time_s: 'noon' is neither a number of seconds nor an ISO 8601 time"),
        ([], "there is a header and not one sample"),
        (MINUTES[:1000], "16.7 hours with a value; give a day at least"),
        ([f"{60 * i},nan" for i in range(1500)], "0.0 hours with a value"),
        ([f"{300 * i},1000" for i in range(500)], "time_s: samples are 300 s apart; record one every 60 s"),
        ([*MINUTES, "99999999,15000"], "time_s: spans 1,157 days"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_trace_that_cannot_be_used_says_why(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(TraceError) as refused:
        tape.read(written(tmp_path, *lines))
    assert says in str(refused.value)


@pytest.mark.parametrize("header", ["time,power\n", "time_s,kilowatts\n", "\n", ""])
def test_other_columns_say_which_ones_are_needed(tmp_path: Path, header: str) -> None:
    with pytest.raises(TraceError, match=r"name the columns time_s \(seconds or ISO times\) and watts"):
        tape.read(written(tmp_path, *MINUTES, header=header))


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (1e-3, r"these are kilowatts; write AC watts \(multiply by 1000\)"),
        (1e-6, "these are megawatts"),
        (1e3, "these are milliwatts"),
        (0.3, "correct --servers, --gpus, or the PowerDomain's nonGPUWattsPerNode"),
        (2.0, "4 servers draw 13,787 W idle and 27,064 W at the most"),
    ],
)
def test_watts_that_these_servers_cannot_draw_are_refused(factor: float, says: str) -> None:
    """Four servers: (2,600 + 8 x 80) / 0.94 W each when idle, (8 x 400 x 1.05 + 3,000) / 0.94 W at the most."""
    found = fits.tape(fits.day() * factor)
    with pytest.raises(TraceError, match=says):
        plausible.refuse(Path("watts.csv"), found, fits.DOMAIN, fits.SERVER, 4)


def test_a_single_absurd_sample_is_named_by_its_time() -> None:
    watts = fits.day()
    plausible.refuse(Path("watts.csv"), fits.tape(watts), fits.DOMAIN, fits.SERVER, 4)
    watts[700] = 9e9
    with pytest.raises(TraceError, match="700 s after the first row, is more than 4 servers draw"):
        plausible.refuse(Path("watts.csv"), fits.tape(watts), fits.DOMAIN, fits.SERVER, 4)


def test_what_a_reader_must_know_is_said() -> None:
    watts = fits.day()
    watts[:100] = np.nan
    said = " ".join(plausible.doubts(tape.Tape(watts, 60.0, 1440, 2), 4.0))
    assert "1.0 days of watts: a week is the least" in said
    assert "Samples are 60 s apart, and caps bite after 4 s" in said
    assert "100 of 86,400 seconds hold no value (2 samples without one)" in said
    week = fits.tape(np.tile(fits.day(), 7))
    assert plausible.doubts(week, 4.0) == ()
