"""Money and carbon of each system, as a table and as a sentence: the terminal and the page print the same words.

Who calls it: `pages.summary`, `pages.page`, `app.replay`. Must not know: HTML, terminals, how a bill is made. What
nobody gave is called not given and has no column; a figure that does not exist is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from capstan.replay.pages import words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled
from capstan.replay.scores import compare
from capstan.replay.scores.bill import Bill
from capstan.replay.scores.compare import Column, Comparison, Estimate, Relative

NOTE = (
    "Of assigned GPUs alone. Money: rent by the second, power at the price of each moment. CO2e: grid is operational, "
    "at the intensity of each moment; embodied is the share of making the servers. Saved: over single-pool."
)


def of(comparison: Comparison) -> tuple[Titled, ...]:
    """Return the table, a row per system with only the columns that say something; none where nothing is known."""
    figures = _figures(_mass(comparison.columns))
    pairs = tuple(zip(comparison.columns, comparison.relatives, strict=True))
    cells = [tuple(figure(column, relative) for _, figure in figures) for column, relative in pairs]
    known = [place for place in range(len(figures)) if any(row[place] != words.NONE for row in cells)]
    if not known:
        return ()
    rows = tuple(
        Row(column.run.system, tuple(Cell(row[place]) for place in known))
        for (column, _), row in zip(pairs, cells, strict=True)
    )
    return (Titled("Cost and carbon", Headed(tuple(figures[place][0] for place in known), rows), (NOTE,)),)


def asked_for(comparison: Comparison) -> bool:
    """Return whether more is known than a rent: then the table is worth its lines in a terminal."""
    return any(_metered(column.score.bill) for column in comparison.columns)


def sentence(comparison: Comparison) -> str:
    """Return what the system on trial cost and saved, in a sentence or two; empty where nothing is known."""
    bill, relative = comparison.first.score.bill, comparison.relatives[0]
    base = comparison.column(compare.SINGLE_POOL)
    against = base is not None and base is not comparison.first
    told = [
        f"{words_of}{_saved(saving) if against else ''}."
        for words_of, saving in (
            (_money(bill), relative.saving_cost),
            (_carbon(bill, _mass(comparison.columns)), relative.saving_carbon),
        )
        if words_of
    ]
    return " ".join(told)


def _money(bill: Bill) -> str:
    if bill.cost is None:
        return ""
    total = _amount(bill.cost)
    if bill.electricity is None:
        return f"Cost: {total} of GPU rent alone, no price of electricity was given"
    if bill.rent is None:
        return f"Cost: {total} of electricity alone"
    return f"Cost: {total}, {_amount(bill.rent)} of it GPU rent"


def _carbon(bill: Bill, mass: _Mass) -> str:
    if bill.carbon_g is None:
        return ""
    total = f"Carbon: {mass.number(bill.carbon_g)} {mass.name} CO2e"
    return total if bill.embodied_g is None else f"{total}, {mass.number(bill.embodied_g)} of it embodied"


def _saved(saving: Estimate | None) -> str:
    """Return a saving in brackets; where it rounds to nothing, that."""
    if saving is None:
        return ""
    told = words.change(saving.mean)
    return f" ({told} {'as' if told == words.AS_MUCH else 'than'} single-pool)"


def _metered(bill: Bill) -> bool:
    return bill.electricity is not None or bill.carbon_g is not None


# --- the table ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mass:
    """What the carbon of a table is counted in: grams of one, and its name."""

    size_g: float
    name: str

    def number(self, grams: float | None) -> str:
        return _amount(None if grams is None else grams / self.size_g)


_MASSES = ((1e7, _Mass(1e6, "t")), (1e4, _Mass(1e3, "kg")), (0.0, _Mass(1.0, "g")))  # at least ten of the larger ones


def _mass(columns: Sequence[Column]) -> _Mass:
    """Return the unit that suits the largest carbon of some systems."""
    largest_g = max((column.score.bill.carbon_g or 0.0 for column in columns), default=0.0)
    return next(mass for least_g, mass in _MASSES if largest_g >= least_g)


_Figure = Callable[[Column, Relative], str]


def _figures(mass: _Mass) -> tuple[tuple[str, _Figure], ...]:
    """Return the heads with what stands under them."""
    return (
        ("rent", lambda column, _: _amount(column.score.bill.rent)),
        ("power", lambda column, _: _amount(column.score.bill.electricity)),
        ("cost", lambda column, _: _amount(column.score.bill.cost if _metered(column.score.bill) else None)),
        ("cost saved %", lambda _, relative: _share(relative.saving_cost)),
        (f"grid {mass.name}", lambda column, _: mass.number(column.score.bill.operational_g)),
        (f"embodied {mass.name}", lambda column, _: mass.number(column.score.bill.embodied_g)),
        (f"CO2e {mass.name}", lambda column, _: mass.number(column.score.bill.carbon_g)),
        ("CO2e saved %", lambda _, relative: _share(relative.saving_carbon)),
    )


def _amount(value: float | None) -> str:
    """Return an amount with cents, and without them from a thousand on."""
    return words.number(value, "", 0 if value is not None and abs(value) >= 1000 else 2)


def _share(estimate: Estimate | None) -> str:
    """Return a saving in percent, with its 95 % interval where there are seeds; `-0.0` does not exist."""
    if estimate is None:
        return words.NONE
    spread = "" if estimate.half_width is None else f"±{100 * estimate.half_width:.1f}"
    return f"{round(100 * estimate.mean, 1) + 0.0:.1f}{spread}"
