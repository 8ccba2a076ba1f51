"""Full collections happen between decisions, once a period, and what is remembered is not looked at meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from capstan.serving.garbage import PERIOD_S, Garbage


class Knot:
    """Something that only a collection can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_cyclic_garbage_is_gone_after_a_sweep() -> None:
    """A sweep a period later frees what lived at the one before, too: put aside is not kept for ever."""
    subject, knot = Garbage(), Knot()
    watched = weakref.ref(knot)
    assert subject.sweep(0.0)
    assert gc.get_freeze_count() > 0
    del knot
    assert not subject.sweep(PERIOD_S - 1)
    assert watched() is not None
    assert subject.sweep(PERIOD_S)
    assert watched() is None
