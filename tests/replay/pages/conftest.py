"""Reports that several files look at."""

from __future__ import annotations

import pytest

from capstan.replay.pages import page
from capstan.replay.runs import Energy
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Comparison
from support import report as made


@pytest.fixture(scope="session")
def many() -> Comparison:
    """A dozen autoscalers and their references, two of which miss the SLO; the bound is no run."""
    names = ["capstan", "single-pool", "best-static", "oracle", *(f"autoscaler-with-a-name-{i}" for i in range(11))]
    columns = compare.scored([made.run(n, scale=1 + 0.1 * i, late=50 * (i in {6, 9})) for i, n in enumerate(names)])
    energy = {made.CHAT: Energy(4e5, 0, 0), made.BATCH: Energy(2e5, 0, 0)}
    return compare.of([*columns, compare.bound(columns[0], energy)])


@pytest.fixture(scope="session")
def pair() -> Comparison:
    return made.pair()


@pytest.fixture(scope="session")
def html_of_pair(pair: Comparison) -> str:
    return page.of(pair)
