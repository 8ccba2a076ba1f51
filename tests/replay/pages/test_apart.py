"""Requests told apart by class: what wrong guesses cost, and joules per request."""

from __future__ import annotations

from typing import Any

import pytest

from capstan.replay.pages import document, page, words
from capstan.replay.scores.compare import Comparison
from support import report as made
from support.browser import Page


def services_of(comparison: Comparison) -> Any:
    systems: Any = document.of(comparison)["systems"]
    return systems["capstan"]["services"]


def test_what_wrong_guesses_cost_stands_in_the_numbers_and_on_the_page() -> None:
    """900 requests of chat, 300 of them taken for long; those that were not long were misplaced."""
    comparison = made.compared(made.told_apart())
    chat, batch = services_of(comparison)
    guesses = chat["guesses"]
    assert batch["guesses"] is None
    assert sum(map(sum, guesses["confusion"])) == chat["requests"]
    assert guesses["shorter"]["requests"] == 0
    assert guesses["longer"]["requests"] == round((1 - guesses["accuracy_ratio"]) * chat["requests"]) > 200
    text = Page(page.of(comparison)).text
    assert "Guessed lengths of answers" in text
    assert "capstan, llm/chat" in text
    assert words.percent(guesses["accuracy_ratio"]) in text


def test_joules_per_request_stand_in_the_numbers_and_on_the_page() -> None:
    """A share of all joules for every class that finished a request; the sum is the service's."""
    comparison = made.compared(made.told_apart())
    chat, batch = services_of(comparison)
    by_class = chat["request_energy_by_class"]
    assert batch["request_energy_by_class"] == {}
    assert sum(one["requests"] * one["request_j"] for one in by_class.values()) == pytest.approx(chat["energy_j"])
    assert set(by_class) == set(chat["class_mix"])
    assert "Joules per request by class" in Page(page.of(comparison)).text


def test_without_pools_by_class_neither_table_is_there(html_of_pair: str) -> None:
    assert "Guessed lengths" not in html_of_pair
    assert "Joules per request" not in html_of_pair
