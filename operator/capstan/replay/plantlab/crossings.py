"""A budget cut at full load: every crossing of a budget from then on, from its first 100 ms until it is back below.

Who calls it: `campaign`, `report`. True AC watts of every domain against its own budget, by itself: P1 (DESIGN 2)
promises each of them its return, so no crossing hides behind the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from capstan.replay.plantlab import layout
from capstan.replay.plantlab.play import Cut, Run
from capstan.replay.plantlab.site import Flags

BIN_S = 1.0 / layout.BINS
HELD_BINS = layout.BINS  # below the budget for a whole second: back under it; a shorter dip ends no crossing


@dataclass(frozen=True, slots=True)
class Crossing:
    """A domain above its budget.

    Attributes:
        from_s: Its beginning, from the cut on; negative where the domain stood above its old budget already.
        back_s: From there until it stayed below.
        blind_s: The part of that in which no command could reach an agent.
        reached: Whether commands reached the agents before it was back; else it went by itself, which proves nothing.
        above_ratio: How far the draw stood above the new budget at first, as a share of it.
        peak_ratio: And at most.
    """

    domain: str
    from_s: float
    back_s: float
    blind_s: float
    reached: bool
    above_ratio: float
    peak_ratio: float

    @property
    def seeing_s(self) -> float:
        """The part of `back_s` in which commands reached the agents."""
        return self.back_s - self.blind_s


@dataclass(frozen=True, slots=True)
class Step:
    """One run with a cut: what crossed, domain by domain in the order of time."""

    crossings: tuple[Crossing, ...]

    @property
    def again(self) -> tuple[Crossing, ...]:
        """Crossings of a domain that had been back below."""
        return tuple(b for a, b in zip(self.crossings, self.crossings[1:], strict=False) if a.domain == b.domain)


def step(run: Run) -> Step:
    """Return all crossings of a run that last until after its cut."""
    cut = run.asked.cut
    if cut is None:
        raise ValueError("a step's score is of a run with a cut")
    return Step(tuple(_crossings(run, cut)))


def stretches(above: Flags) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of what is true, with dips of less than `HELD_BINS` filled."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], above.astype(np.int8), [0]))))
    firsts, ends = edges[::2], edges[1::2]
    apart = np.flatnonzero(firsts[1:] - ends[:-1] >= HELD_BINS)
    starts = np.concatenate(([0], apart + 1)) if len(firsts) else apart
    stops = np.concatenate((apart, [len(firsts) - 1])) if len(firsts) else apart
    yield from ((int(firsts[a]), int(ends[b])) for a, b in zip(starts, stops, strict=True))


def _crossings(run: Run, cut: Cut) -> Iterator[Crossing]:
    """Yield them; one that begins with the cut begins at its moment, not with the 100 ms after it."""
    newly = int(np.ceil(cut.at_s * layout.BINS))
    for column, domain in enumerate(run.scene.domains):
        over_ratio = run.draw_w[:, column] / run.budget_w[:, column] - 1
        for first, end in stretches(over_ratio > 0):
            if end <= newly:
                continue
            starts_s = cut.at_s if first == newly else first * BIN_S
            ends_s = end * BIN_S
            seen_ratio = over_ratio[max(first, newly) : end]
            yield Crossing(
                domain=domain.name,
                from_s=starts_s - cut.at_s,
                back_s=ends_s - starts_s,
                blind_s=_blind_s(run, starts_s, ends_s),
                reached=not _dark(run, ends_s),
                above_ratio=float(seen_ratio[0]),
                peak_ratio=float(seen_ratio.max()),
            )


def _dark(run: Run, at_s: float) -> bool:
    """Return whether no command can reach an agent just before this 100 ms."""
    blackout = run.asked.faults.blackout
    if blackout is None or not blackout.commands_too:
        return False
    return blackout.at_seconds < at_s < blackout.at_seconds + blackout.for_seconds - BIN_S / 2


def _blind_s(run: Run, from_s: float, to_s: float) -> float:
    """Return how much of a stretch no command could reach an agent."""
    blackout = run.asked.faults.blackout
    if blackout is None or not blackout.commands_too:
        return 0.0
    end_s = blackout.at_seconds + blackout.for_seconds
    return max(min(to_s, end_s) - max(from_s, blackout.at_seconds), 0.0)
