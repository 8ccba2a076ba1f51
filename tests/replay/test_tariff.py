"""Price and carbon files: read in the core's units, or refused with row, column and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.replay.scores import tariff
from capstan.replay.scores.tariff import TariffError
from capstan.units import JOULES_PER_KWH


def test_a_tariff_is_read_from_its_columns_per_joule(tmp_path: Path) -> None:
    path = tmp_path / "price.csv"
    path.write_text("note,price_per_kwh,start_s\nnight,0.1,0\n\nday,-0.02,21600\n")
    found = tariff.price(path)
    assert (found.start_s, found.period_s) == ((0.0, 21600.0), None)
    assert [value * JOULES_PER_KWH for value in found.values] == pytest.approx([0.1, -0.02])


def test_a_day_says_where_it_begins_again(tmp_path: Path) -> None:
    """25 h after the first arrival it is 1 h of the second day: 100 g again."""
    path = tmp_path / "carbon.csv"
    path.write_text("start_s,g_per_kwh\n0,100\n43200,300\n86400,repeat\n")
    found = tariff.carbon(path)
    assert found.period_s == 86_400
    assert [found.at(hour * 3600) * JOULES_PER_KWH for hour in (1, 13, 25, 37)] == pytest.approx([100, 300, 100, 300])


REFUSED = {
    "empty": ("", "row 1, start_s, g_per_kwh: missing"),
    "the other file": ("start_s,price_per_kwh\n0,1\n", "row 1, g_per_kwh: missing; found start_s, price_per_kwh"),
    "only a header": ("start_s,g_per_kwh\n", "rows: there is none"),
    "nothing but an end": ("start_s,g_per_kwh\n0,repeat\n", "rows: there is none"),
    "late start": ("start_s,g_per_kwh\n300,1\n", "row 2, start_s: the first is 300; begin at 0"),
    "backwards": ("start_s,g_per_kwh\n0,1\n600,1\n300,1\n", "row 4, start_s: 300 is not after the row above"),
    "an end before the last step": (
        "start_s,g_per_kwh\n0,1\n600,1\n300,repeat\n",
        "row 4, start_s: 300 is not after the row above",
    ),
    "more after the end": ("start_s,g_per_kwh\n0,1\n600,repeat\n900,2\n", "row 4, g_per_kwh: comes after `repeat`"),
    "NaN": ("start_s,g_per_kwh\n0,1\n600,nan\n", "row 3, g_per_kwh: nan is not possible"),
    "an endless start": ("start_s,g_per_kwh\n0,1\ninf,2\n", "row 3, start_s: inf is not possible"),
    "negative": ("start_s,g_per_kwh\n0,-5\n", "row 2, g_per_kwh: -5 is not possible"),
    "words": ("start_s,g_per_kwh\n0,much\n", "row 2, g_per_kwh: 'much' is no number"),
    "short": ("start_s,g_per_kwh\n0\n", "row 2, g_per_kwh: '' is no number"),
    "binary": ("start_s,g_per_kwh\n\x00,1\n", "row 2, start_s"),
}


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_a_tariff_that_cannot_be_used_names_row_and_column(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "carbon.csv"
    path.write_text(text)
    with pytest.raises(TariffError, match=says):
        tariff.carbon(path)


def test_a_tariff_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TariffError, match=r"none\.csv, file: No such file or directory; give a file"):
        tariff.price(tmp_path / "none.csv")


def test_the_shipped_files_are_days_that_begin_again_or_never_change(root: Path) -> None:
    paths = sorted((root / "policies" / "tariffs").glob("*.csv"))
    assert len(paths) >= 3
    for path in paths:
        read = tariff.price if "price" in path.name else tariff.carbon
        found = read(path)
        assert min(found.values) > 0, path.name
        assert found.period_s == (86_400 if len(found.values) > 1 else None), path.name
