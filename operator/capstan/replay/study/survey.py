"""A whole study: every class on every profile under every clock response, and the best of each.

Who calls it: `app.study`. Must not know: findings, tables, pages, files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from capstan.model.profile import ClockResponse, Profile, with_clock_response
from capstan.optimize import sizing
from capstan.replay.study import surface
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.surface import Cell, Sheet

TTFT, TPOT = 0, 1
"""Places in `Choice.latencies_s`."""

Told = Callable[[float], None]
"""Hears the share that is done."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A cell and the sheet it stands on."""

    sheet: Sheet
    cell: Cell

    @property
    def tp(self) -> int:
        """The replica's GPUs."""
        return self.sheet.profile.tp

    @property
    def latencies_s(self) -> tuple[float, float]:
        """TTFT and TPOT at the SLO's percentile."""
        return self.cell.ttft_s, self.cell.tpot_s


@dataclass(frozen=True, slots=True)
class View:
    """The study under one clock response; `sheets` by class, and within a class by ascending tp."""

    response: ClockResponse
    sheets: tuple[Sheet, ...]
    margin: float

    @property
    def kinds(self) -> tuple[ClassLoad, ...]:
        """The classes, in the order of their codes."""
        return tuple(dict.fromkeys(sheet.kind for sheet in self.sheets))

    @property
    def tps(self) -> tuple[int, ...]:
        """The tensor-parallel degrees, ascending."""
        return tuple(dict.fromkeys(sheet.profile.tp for sheet in self.sheets))

    def of(self, kind: ClassLoad) -> tuple[Sheet, ...]:
        """Return a class's sheets by ascending tp."""
        return tuple(sheet for sheet in self.sheets if sheet.kind == kind)

    def choices(self, kind: ClassLoad) -> tuple[Choice, ...]:
        """Return everything that could be chosen for a class, whether it keeps the SLO or not."""
        return tuple(Choice(sheet, cell) for sheet in self.of(kind) for cell in sheet.cells)

    def best(self, kind: ClassLoad) -> Choice | None:
        """Return the least energy per token inside the SLO, None where nothing keeps it."""
        return min(filter(self.keeps, self.choices(kind)), key=_energy, default=None)

    def closest(self, kind: ClassLoad) -> Choice | None:
        """Return what comes closest to the SLO, or stays furthest inside it."""
        return min(self.choices(kind), key=lambda one: one.cell.stress_ratio, default=None)

    def at_load(self, kind: ClassLoad, load: int) -> Choice | None:
        """Return the least energy per token inside the SLO at one of `surface.LOADS`, on one replica."""
        there = (Choice(s, cell) for s in self.of(kind) for cell in s.loads[load] if cell is not None)
        return min(filter(self.keeps, there), key=_energy, default=None)

    def keeps(self, choice: Choice) -> bool:
        """Return whether a choice keeps the SLO with the margin; the edge itself does."""
        return choice.cell.stress_ratio <= self.margin * (1 + _ROUNDING)


_ROUNDING = 1e-6  # the edge is found on a grid of rates: its stress may lie this far beyond the margin


@dataclass(frozen=True, slots=True)
class Study:
    """The same study under several clock responses: the band inside which a finding must hold."""

    views: tuple[View, ...]

    @property
    def nominal(self) -> View:
        """The view that tables and drawings show: nominal, or the only one there is."""
        found = (view for view in self.views if view.response is ClockResponse.NOMINAL)
        return next(found, self.views[0])


def survey(
    profiles: Sequence[Profile],
    kinds: Sequence[ClassLoad],
    *,
    responses: Sequence[ClockResponse],
    margin: float,
    told: Told = lambda _: None,
) -> Study:
    """Compute a study.

    Args:
        profiles: One LLM on one GPU at several tps.
        kinds: The classes.
        responses: Of the clock, where a profile's is assumed.
        margin: Share of each limit that may be used, as in `decide`.
        told: Hears how far it is.
    """
    found: list[tuple[Sheet, ...]] = []
    for kind in kinds:
        reference_rps = max(sizing.capacity_rps(one, kind.load, kind.slo, margin=margin) for one in profiles)
        for profile in sorted(profiles, key=lambda one: one.tp):
            banded = [with_clock_response(profile, response) for response in responses]
            found.append(surface.sheets(banded, kind, reference_rps=reference_rps, margin=margin))
            told(len(found) / len(profiles) / len(kinds))
    return Study(
        tuple(
            View(response, tuple(sheets[index] for sheets in found), margin) for index, response in enumerate(responses)
        )
    )


def frontier(choices: Sequence[Choice], latency: int) -> tuple[Choice, ...]:
    """Return the choices that no other beats in both energy and one latency, by ascending latency.

    Args:
        choices: Of one class.
        latency: `TTFT` or `TPOT`.
    """
    kept: list[Choice] = []
    for one in sorted(choices, key=lambda one: (one.latencies_s[latency], _energy(one))):
        if not kept or _energy(one) < _energy(kept[-1]):
            kept.append(one)
    return tuple(kept)


def efficient(choices: Sequence[Choice]) -> tuple[bool, ...]:
    """Return, for each choice, whether no other is at least as good in energy, TTFT and TPOT, and better in one."""
    if not choices:
        return ()
    goals = np.array([(_energy(one), *one.latencies_s) for one in choices])
    worse = [bool(((goals <= goal).all(axis=1) & (goals < goal).any(axis=1)).any()) for goal in goals]
    return tuple(not one for one in worse)


def _energy(choice: Choice) -> float:
    return choice.cell.j_per_output_token
