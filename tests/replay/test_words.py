"""Figures as people read them: nothing rounds into a promise, nothing rounds to minus zero."""

from __future__ import annotations

import pytest

from capstan.replay.pages import words
from support import builders


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.98996, "98.99 %"), (0.99, "99.00 %"), (1.0, "100.00 %"), (0.999999, "99.99 %"), (None, "n/a")],
)
def test_a_share_is_rounded_down(ratio: float | None, said: str) -> None:
    assert words.percent(ratio) == said


@pytest.mark.parametrize(("ratio", "said"), [(0.99999, "0.9999"), (1.0, "1.0000"), (0.5, "0.5000")])
def test_an_index_is_rounded_down(ratio: float, said: str) -> None:
    assert words.digits(ratio) == said


@pytest.mark.parametrize(("ratio", "said"), [(0.314, "31 %"), (-0.001, "0 %"), (-0.04, "-4 %"), (None, "n/a")])
def test_a_change_has_whole_percent(ratio: float | None, said: str) -> None:
    assert words.share(ratio) == said


@pytest.mark.parametrize(
    ("joules", "said"),
    [(1_150_000.0, "1,150 kJ"), (1.876e7, "18.76 MJ"), (3.6e8, "100.0 kWh"), (0.0, "0 kJ"), (None, "n/a")],
)
def test_energy_has_the_unit_that_fits(joules: float | None, said: str) -> None:
    assert words.energy(joules) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0221, "22.1 ms"), (0.114, "114 ms"), (3.0, "3,000 ms"), (None, "n/a")]
)
def test_a_time_has_three_digits(seconds: float | None, said: str) -> None:
    assert words.ms(seconds) == said


def test_a_profile_names_its_fit_error_and_what_is_assumed() -> None:
    fitted = builders.profile(fit_error_ratio=0.0816)
    assert words.profile(fitted) == "test-tp4 (fit error 8.2 %, clock response assumed)"
