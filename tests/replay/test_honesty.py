"""The checks that a comparison cannot talk its way out of, and the file that a failed one leaves."""

from __future__ import annotations

import json
import math

import pytest

from capstan.replay.searches import honesty
from capstan.replay.searches.honesty import Row

FAIR = {
    "single-pool": Row(100.0, slo_met=True),
    "capstan": Row(70.0, slo_met=True),
    "hpa-queue": Row(40.0, slo_met=False),
    "oracle": Row(60.0, slo_met=True),
    "bound": Row(30.0, slo_met=True),
}


def test_a_fair_comparison_has_no_fault() -> None:
    """`hpa-queue` is below the oracle, but it misses the SLO: that is no achievement."""
    assert honesty.check(FAIR) == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"capstan": Row(59.0, slo_met=True)}, "capstan meets the SLO with 59 J, below oracle with 60 J"),
        ({"oracle": Row(29.0, slo_met=True)}, "oracle meets the SLO with 29 J, below bound with 30 J"),
        ({"oracle": Row(60.0, slo_met=False)}, "oracle misses the SLO, which capstan, single-pool meets"),
        ({"capstan": Row(math.nan, slo_met=True)}, "capstan: nan J is no energy"),
        ({"bound": Row(-1.0, slo_met=True)}, "bound: -1.0 J is no energy"),
        ({"oracle": Row(math.inf, slo_met=True)}, "oracle: inf J is no energy"),
    ],
)
def test_each_fault_is_said(changed: dict[str, Row], said: str) -> None:
    assert said in honesty.check({**FAIR, **changed})


def test_rounding_is_forgiven_and_a_millionth_is_not() -> None:
    assert honesty.check({**FAIR, "capstan": Row(60.0 * (1 - 1e-12), slo_met=True)}) == ()
    assert honesty.check({**FAIR, "capstan": Row(60.0 * (1 - 1e-6), slo_met=True)})


def test_without_an_oracle_the_bound_still_holds_systems() -> None:
    rows = {"capstan": Row(20.0, slo_met=True), "bound": Row(30.0, slo_met=True)}
    assert honesty.check(rows) == ("capstan meets the SLO with 20 J, below bound with 30 J",)
    assert honesty.check({"capstan": Row(20.0, slo_met=True)}) == ()


def test_the_case_is_json_whatever_the_energies_are() -> None:
    rows = {**FAIR, "capstan": Row(math.nan, slo_met=True)}
    text = honesty.case(rows, honesty.check(rows), (("trace", "conv"), ("seed", "7")))
    read = json.loads(text)
    assert read["settings"] == {"trace": "conv", "seed": "7"}
    assert read["systems"]["capstan"] == {"energy_j": "nan", "slo_met": True}
    assert read["faults"] == list(honesty.check(rows))
