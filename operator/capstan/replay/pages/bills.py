"""Money and carbon of each system, as a table and as a sentence: the terminal and the page print the same words.

Who calls it: `pages.summary`, `pages.page`, `app.replay`. Must not know: HTML, terminals, how a bill is made. What
nobody gave is called not given and has no column; a figure that does not exist is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    rows = [
        (column.run.system, _cells(column, relative))
        for column, relative in zip(comparison.columns, comparison.relatives, strict=True)
    ]
    known = [place for place in range(len(_HEADS)) if any(cells[place] != words.NONE for _, cells in rows)]
    if not any(_HEADS[place] in ("rent", "power", "CO2e kg") for place in known):
        return ()
    heads = tuple(_HEADS[place] for place in known)
    told = tuple(Row(name, tuple(Cell(cells[place]) for place in known)) for name, cells in rows)
    return (Titled("Cost and carbon", Headed(heads, told), (NOTE,)),)


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
        for words_of, saving in ((_money(bill), relative.saving_cost), (_carbon(bill), relative.saving_carbon))
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


def _carbon(bill: Bill) -> str:
    if bill.carbon_g is None:
        return ""
    total = f"Carbon: {_kg(bill.carbon_g)} kg CO2e"
    return total if bill.embodied_g is None else f"{total}, {_kg(bill.embodied_g)} of it embodied"


def _saved(saving: Estimate | None) -> str:
    """Return a saving in brackets; where it rounds to nothing, that."""
    if saving is None:
        return ""
    told = words.change(saving.mean)
    return f" ({told} {'as' if told == words.AS_MUCH else 'than'} single-pool)"


def _metered(bill: Bill) -> bool:
    return bill.electricity is not None or bill.carbon_g is not None


# --- the table ---------------------------------------------------------------------------------------

_Figure = Callable[[Column, Relative], str]


def _number(pick: Callable[[Bill], float | None]) -> _Figure:
    return lambda column, _: _amount(pick(column.score.bill))


def _kilograms(pick: Callable[[Bill], float | None]) -> _Figure:
    return lambda column, _: _kg(pick(column.score.bill))


def _percent(pick: Callable[[Relative], Estimate | None]) -> _Figure:
    return lambda _, relative: _share(pick(relative))


_FIGURES: Sequence[tuple[str, _Figure]] = (
    ("rent", _number(lambda bill: bill.rent)),
    ("power", _number(lambda bill: bill.electricity)),
    ("cost", _number(lambda bill: bill.cost if _metered(bill) else None)),
    ("cost saved %", _percent(lambda relative: relative.saving_cost)),
    ("grid kg", _kilograms(lambda bill: bill.operational_g)),
    ("embodied kg", _kilograms(lambda bill: bill.embodied_g)),
    ("CO2e kg", _kilograms(lambda bill: bill.carbon_g)),
    ("CO2e saved %", _percent(lambda relative: relative.saving_carbon)),
)
_HEADS = tuple(head for head, _ in _FIGURES)


def _cells(column: Column, relative: Relative) -> list[str]:
    return [figure(column, relative) for _, figure in _FIGURES]


def _kg(grams: float | None) -> str:
    return _amount(None if grams is None else grams / 1e3)


def _amount(value: float | None) -> str:
    """Return an amount with cents, and without them from a thousand on."""
    return words.number(value, "", 0 if value is not None and abs(value) >= 1000 else 2)


def _share(estimate: Estimate | None) -> str:
    """Return a saving in percent, with its 95 % interval where there are seeds."""
    if estimate is None:
        return words.NONE
    spread = "" if estimate.half_width is None else f"±{100 * estimate.half_width:.1f}"
    return f"{100 * estimate.mean:.1f}{spread}"
