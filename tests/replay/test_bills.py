"""Money and carbon in tables and words: only what was given, units in the heads, and nothing that fits no terminal."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from capstan.model.objective import Series, Tariffs
from capstan.replay import play
from capstan.replay.pages import bills, document, page, summary
from capstan.replay.scores import compare, score
from capstan.replay.scores.bill import Bill
from capstan.replay.scores.compare import Comparison
from capstan.units import JOULES_PER_KWH, SECONDS_PER_HOUR
from support import report as made

PRICE = Series((0.0,), (0.10 / JOULES_PER_KWH,))
GRID = Series((0.0,), (500 / JOULES_PER_KWH,))
RENT = Tariffs(rent_per_gpu_s=11.06 / SECONDS_PER_HOUR)
ALL = Tariffs(PRICE, 11.06 / SECONDS_PER_HOUR, GRID, 20 / SECONDS_PER_HOUR)


def columns(tariffs: Tariffs, *systems: str, missed: bool = False) -> tuple[compare.Column, ...]:
    """Runs of 4,800 GPU-seconds, single-pool's of twice as many."""
    found = []
    for name in systems:
        run = made.run(name, late=50 if missed else 0)
        if name == compare.SINGLE_POOL:
            doubled = tuple(dataclasses.replace(s, gpu_seconds=2 * s.gpu_seconds) for s in run.services)
            run = dataclasses.replace(run, services=doubled)
        found.append(compare.Column(run, score.of(run, tariffs=tariffs)))
    return tuple(found)


def compared(tariffs: Tariffs, *systems: str, missed: bool = False) -> Comparison:
    return compare.of(columns(tariffs, *(systems or ("capstan", "single-pool")), missed=missed))


def printed(comparison: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    summary.print_table(comparison, Console(file=out, width=width))
    return out.getvalue()


def test_a_rent_alone_is_told_as_such_and_fills_no_terminal() -> None:
    """4,800 s are 1.333 GPU-hours x 11.06 = 14.75; single-pool has twice as many."""
    found = compared(RENT)
    assert bills.sentence(found) == (
        "Cost: 14.75 of GPU rent alone, no price of electricity was given (50 % less than single-pool)."
    )
    assert [table.title for table in bills.of(found)] == ["Cost and carbon"], "the page has it"
    assert "rent" not in printed(found)


def test_with_a_price_and_an_intensity_both_are_told_and_saved() -> None:
    found = compared(ALL)
    bill = found.first.score.bill
    assert bill.electricity is not None
    assert bill.operational_g is not None
    # one constant price and one constant intensity of the same joules
    assert bill.operational_g == pytest.approx(bill.electricity * 500 / 0.10)
    assert bill.embodied_g == pytest.approx(4800 / 3600 * 20)
    told = bills.sentence(found)
    assert bill.cost is not None
    assert bill.embodied_g is not None
    assert told.startswith(f"Cost: {bill.cost:.2f}, 14.75 of it GPU rent (50 % less than single-pool). Carbon: ")
    assert f"{bill.embodied_g:.2f} of it embodied" in told
    assert " (" in told.partition("Carbon")[2], "carbon is compared, too"


def test_the_table_has_a_row_a_system_and_only_columns_that_say_something() -> None:
    (table,) = bills.of(compared(ALL))
    assert table.table.heads == (
        "rent", "power", "cost", "cost saved %", "grid g", "embodied g", "CO2e g", "CO2e saved %",
    )  # fmt: skip
    assert [row.label for row in table.table.rows] == ["capstan", "single-pool"]
    assert [cell.text for cell in table.table.rows[1].cells][:4:3] == ["29.49", "0.0"]
    (rented,) = bills.of(compared(RENT))
    assert rented.table.heads == ("rent", "cost saved %")


def test_without_any_tariff_nothing_is_said() -> None:
    found = compared(Tariffs())
    assert (bills.of(found), bills.sentence(found), bills.asked_for(found)) == ((), "", False)


def test_electricity_alone_and_carbon_without_an_embodied_share_say_so() -> None:
    told = bills.sentence(compared(Tariffs(PRICE, intensity=GRID), "capstan"))
    assert "of electricity alone." in told
    assert told.endswith(" g CO2e.")


@pytest.mark.parametrize(
    ("grams", "words"),
    [(9_999, "9,999 g CO2e"), (10_000, "10.00 kg CO2e"), (9_999_000, "9,999 kg CO2e"), (5e7, "50.00 t CO2e")],
)
def test_carbon_is_told_in_the_unit_that_suits_it(grams: float, words: str) -> None:
    first = columns(Tariffs(), "capstan")[0]
    spent = dataclasses.replace(first.score, bill=Bill(carbon_g=grams))
    assert bills.sentence(compare.of((dataclasses.replace(first, score=spent),))) == f"Carbon: {words}."


def test_as_much_is_as_much_as() -> None:
    twins = columns(RENT, "capstan", "capstan")
    same = dataclasses.replace(
        twins[1],
        run=dataclasses.replace(twins[1].run, system="single-pool"),
        score=dataclasses.replace(twins[1].score, system="single-pool"),
    )
    assert bills.sentence(compare.of((twins[0], same))).endswith("(as much as single-pool).")


def test_who_missed_the_slo_is_not_compared_but_its_bill_stands() -> None:
    told = bills.sentence(compared(RENT, missed=True))
    assert told == "Cost: 14.75 of GPU rent alone, no price of electricity was given."


@pytest.mark.parametrize("width", [80, 120])
def test_every_system_fits_an_old_terminal(width: int) -> None:
    found = compared(ALL, *(name for name in play.ALL if name != "bound"))
    lines = printed(found, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("embodied" in line.split() for line in lines), "no head is broken"
    assert sum(line.split()[:1] == ["keda-slo"] for line in lines) == 2, "a row in each table"


def test_the_json_has_every_part_and_null_for_what_is_not_known() -> None:
    def of(tariffs: Tariffs) -> dict[str, object]:
        found: dict[str, object] = json.loads(json.dumps(document.of(compared(tariffs))))["systems"]["capstan"]
        return {name: value for name, value in found.items() if name.startswith(("cost", "carbon"))}

    parts = ("cost", "cost_rent", "cost_electricity", "carbon_g", "carbon_operational_g", "carbon_embodied_g")
    assert of(Tariffs()) == dict.fromkeys(parts)
    rented = of(RENT)
    assert rented == dict.fromkeys(parts) | {"cost": pytest.approx(14.7467, rel=1e-4), "cost_rent": rented["cost"]}
    assert None not in of(ALL).values()


def test_the_page_and_the_terminal_say_the_same() -> None:
    found = compared(ALL)
    text = page.of(found).replace("\u00a0", " ")
    assert bills.sentence(found) in text
    for row in bills.of(found)[0].table.rows:
        for cell in row.cells:
            assert cell.text in text
            assert cell.text in printed(found, 120)
