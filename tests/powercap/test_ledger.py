"""The ledger's two phases, one message at a time; `test_ledger_states` lets everything happen in any order."""

from __future__ import annotations

import pytest

from capstan.powercap import ledger
from capstan.powercap.ledger import Ledger, Obeyed, ReadBack, Told

ROW, RACK_A, RACK_B = "row", "rack-a", "rack-b"


def two(row_w: float = 16_000) -> Ledger:
    """Two nodes of one rack with 8 kW each: nothing is left of the row."""
    made = Ledger(0, ((RACK_A, 20_000), (ROW, row_w)))
    made = ledger.joined(made, "donor", (RACK_A, ROW), 8_000)
    return ledger.joined(made, "taker", (RACK_A, ROW), 8_000)


def granted(book: Ledger) -> dict[str, float]:
    return {entry.node: entry.grant_w for entry in book.entries}


def held(book: Ledger) -> dict[str, float]:
    return {entry.node: entry.held_w for entry in book.entries}


WANTED = {"taker": 9_000.0, "donor": 7_000.0}


def test_a_donor_is_lowered_first_and_nobody_is_raised_yet() -> None:
    book = ledger.toward(two(), WANTED)
    assert granted(book) == {"donor": 7_000, "taker": 8_000}
    assert held(book) == {"donor": 8_000, "taker": 8_000}


def test_the_taker_is_raised_once_the_donor_was_read_back_for_two_seconds() -> None:
    book = ledger.toward(two(), WANTED)
    low = ReadBack("donor", 7_000, book.version)
    book = ledger.heard(book, (low,), now_s=10.0)
    assert ledger.toward(book, WANTED) == book, "0 s of read-back free nothing"
    assert ledger.heard(book, (low,), now_s=11.9) == book
    book = ledger.heard(book, (low,), now_s=12.0)
    assert held(book) == {"donor": 7_000, "taker": 8_000}
    assert granted(ledger.toward(book, WANTED)) == {"donor": 7_000, "taker": 9_000}


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(ReadBack("donor", 7_500, 3), id="the limit in force is still above the grant"),
        pytest.param(ReadBack("donor", 6_000, 2), id="a report from before the message"),
        pytest.param(ReadBack("donor", 6_000, None), id="an agent that lost its memory"),
        pytest.param(ReadBack("stranger", 6_000, 3), id="somebody else's"),
    ],
)
def test_a_report_that_proves_nothing_frees_nothing(report: ReadBack) -> None:
    book = ledger.toward(two(), WANTED)
    assert book.version == 3
    for now_s in (0.0, 5.0, 100.0):
        book = ledger.heard(book, (report,), now_s)
    assert held(book)["donor"] == 8_000


def test_a_reading_above_the_grant_starts_the_two_seconds_anew() -> None:
    book = ledger.toward(two(), WANTED)
    low, high = ReadBack("donor", 7_000, book.version), ReadBack("donor", 7_900, book.version)
    for now_s, report in ((0.0, low), (1.0, high), (2.0, low), (3.9, low)):
        book = ledger.heard(book, (report,), now_s)
    assert held(book)["donor"] == 8_000
    assert held(ledger.heard(book, (low,), now_s=4.0))["donor"] == 7_000


def test_a_silent_donor_keeps_its_watts_for_ever() -> None:
    book = ledger.toward(two(), WANTED)
    for now_s in (60.0, 3_600.0, 1e9):
        book = ledger.toward(ledger.heard(book, (), now_s), WANTED)
    assert granted(book)["taker"] == 8_000


def test_a_donor_may_have_its_own_watts_again_before_they_are_free() -> None:
    book = ledger.toward(ledger.toward(two(), WANTED), {"donor": 8_000.0})
    assert granted(book)["donor"] == held(book)["donor"] == 8_000


def test_a_raise_is_bounded_by_every_ancestor() -> None:
    book = Ledger(0, ((RACK_A, 8_500), (RACK_B, 20_000), (ROW, 20_000)))
    book = ledger.joined(book, "a", (RACK_A, ROW), 8_000)
    book = ledger.joined(book, "b", (RACK_B, ROW), 8_000)
    assert granted(ledger.toward(book, {"a": 10_000.0, "b": 12_000.0})) == {"a": 8_500, "b": 11_500}


def test_a_node_joins_only_where_there_is_room() -> None:
    book = two(row_w=20_000)
    assert ledger.joined(book, "third", (RACK_A, ROW), 4_001) == book
    assert ledger.joined(book, "third", (RACK_A, ROW), 4_000).entry("third") is not None
    assert ledger.joined(book, "donor", (RACK_A, ROW), 1.0) == book, "it is there already"


def test_a_stale_leaders_swap_fails() -> None:
    stored = two()
    mine, theirs = ledger.toward(stored, WANTED), ledger.toward(stored, {"taker": 7_000.0})
    stored = ledger.swapped(stored, mine)
    assert ledger.swapped(stored, theirs) == mine


def test_a_cut_frees_nothing_and_stops_every_raise_until_donors_followed() -> None:
    book = ledger.rebudgeted(two(), {ROW: 12_000, RACK_A: 20_000})
    assert book.spare_w()[ROW] == -4_000
    assert ledger.toward(book, {"taker": 8_500.0}) == book
    book = ledger.toward(book, {"taker": 6_000.0, "donor": 6_000.0})
    assert granted(book) == {"donor": 6_000, "taker": 6_000}


def test_a_new_leader_begins_every_read_back_anew() -> None:
    """Its monotonic clock may be hours ahead of the one that wrote `low_since_s`."""
    book = ledger.toward(two(), WANTED)
    low = ReadBack("donor", 7_000, book.version)
    book = ledger.taken_over(ledger.heard(book, (low,), now_s=10.0))
    assert held(ledger.heard(book, (low,), now_s=50_000.0))["donor"] == 8_000


@pytest.mark.parametrize(
    ("kept", "told_w", "sequence", "left_w"),
    [
        pytest.param(Obeyed(8_000, 3), 7_000, 4, 7_000, id="newer and lower"),
        pytest.param(Obeyed(7_000, 4), 8_000, 5, 8_000, id="newer and higher"),
        pytest.param(Obeyed(7_000, 4), 8_000, 3, 7_000, id="late"),
        pytest.param(Obeyed(7_000, 4), 9_000, 4, 7_000, id="the same version twice"),
        pytest.param(Obeyed(7_000, None), 8_000, 9, 7_000, id="without a memory it does not go up"),
        pytest.param(Obeyed(7_000, None), 6_000, 2, 6_000, id="without a memory it goes down"),
    ],
)
def test_agents_obey_newer_messages_only(kept: Obeyed, told_w: float, sequence: int, left_w: float) -> None:
    assert ledger.obeyed(kept, Told("n", told_w, sequence)).grant_w == left_w
