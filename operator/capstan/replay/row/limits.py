"""Board limits instead of clock caps: even ones, ones that follow the draw, and grants.

Who calls it: `play`, every few seconds. Must not know: requests. All three turn watts of a server into a limit of its
boards by one formula (`powercap.grants`), so all three hold the budget by arithmetic; they differ in who gets how much.
A server whose watts are not enough for the lowest limit of its boards takes no part: it is switched off, and what is
asked of it is refused. A count with such servers does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from capstan.powercap import grants
from capstan.replay.row import loop, physics
from capstan.replay.row.systems import Kind
from capstan.replay.runs import Floats

if TYPE_CHECKING:
    from capstan.replay.row.play import Row

ROW = "row"
ROOM_RATIO = 1.10  # dps-like: a server keeps this much above what it drew, as NVIDIA's steering leaves a band


class Setter(Protocol):
    """Sets limits of boards, watts by server, in place; 0 is off.

    Attributes:
        steady: Nothing changes after the first.
        left_out: Servers that are off: the budget has no grant for them.
    """

    steady: bool
    left_out: int

    @property
    def stranded_ratio(self) -> float:
        """Share of the budget that the limits keep from being used."""

    def first(self, limit_w: Floats) -> None:
        """Set the limits of the beginning."""

    def again(self, limit_w: Floats, busy_w: Floats) -> None:
        """Set the next ones from the highest second of each server since the last."""


class Free:
    """No limit."""

    steady = True
    left_out = 0
    stranded_ratio = 0.0

    def first(self, limit_w: Floats) -> None:
        """Leave every board at its stock limit."""

    def again(self, limit_w: Floats, busy_w: Floats) -> None:
        """Leave them."""


class Even:
    """The budget divided evenly, for ever."""

    steady = True

    def __init__(self, row: Row, demand: loop.Demand) -> None:
        members = _members(row, demand)
        even_w = row.budget_w / row.count
        self._limits_w = _limits_w(members, np.full(len(members), even_w))
        self.left_out = sum(not grants.joins(member, even_w) for member in members)

    @property
    def stranded_ratio(self) -> float:
        """Nothing is moved, so nothing is counted."""
        return 0.0

    def first(self, limit_w: Floats) -> None:
        """Set them."""
        limit_w[:] = self._limits_w

    def again(self, limit_w: Floats, busy_w: Floats) -> None:
        """Leave them."""


class Moving:
    """Grants that follow need: lowered at once, raised from watts that were free one look ago.

    Args:
        row, demand: Servers and their priorities.
        steered: As a steering service does it: by what was drawn and a band above it, low priority robbed first. Else
            by asking (`grants.ask_w`, `grants.allocate`).
    """

    steady = False

    def __init__(self, row: Row, demand: loop.Demand, *, steered: bool) -> None:
        everybody = _members(row, demand)
        self._budget_w = row.budget_w
        self._steered = steered
        self._tables = row.kind.tables
        begun = grants.initial(everybody, {ROW: row.budget_w})
        self._members = tuple(member for member in everybody if member.node in begun)
        self._joined = np.array([i for i, member in enumerate(everybody) if member.node in begun], dtype=np.intp)
        self._grants_w = np.array([begun[member.node] for member in self._members])
        self.left_out = row.count - len(self._members)
        self._stranded: list[float] = []

    @property
    def stranded_ratio(self) -> float:
        """Budget that grants kept from servers that were held by them, over the budget, mean of all looks."""
        return float(np.mean(self._stranded)) if self._stranded else 0.0

    def first(self, limit_w: Floats) -> None:
        """Set the first division."""
        limit_w[:] = 0.0
        limit_w[self._joined] = _limits_w(self._members, self._grants_w)

    def again(self, limit_w: Floats, busy_w: Floats) -> None:
        """Lower who gives, raise who needs from what was free before."""
        if not len(self._joined):
            return
        busy_w = busy_w[self._joined]
        wanted_w = self._steered_w(busy_w) if self._steered else self._asked_w(busy_w)
        spare_w = self._budget_w - float(self._grants_w.sum())  # what was lowered last time is free now
        rises_w = np.maximum(wanted_w - self._grants_w, 0.0)
        share = min(1.0, max(spare_w, 0.0) / rises_w.sum()) if rises_w.any() else 0.0
        held = busy_w >= grants.NEAR_RATIO * self._grants_w * (1 - grants.TRANSIENT_RATIO)
        self._stranded.append(float(self._budget_w - busy_w.sum()) / self._budget_w if held.any() else 0.0)
        self._grants_w = np.minimum(self._grants_w, wanted_w) + rises_w * share
        limit_w[self._joined] = _limits_w(self._members, self._grants_w)

    def _asked_w(self, busy_w: Floats) -> Floats:
        boards_w = self._boards_w(busy_w)
        asks = {
            member.node: grants.ask_w(member, granted, boards)
            for member, granted, boards in zip(self._members, self._grants_w, boards_w, strict=True)
        }
        now = dict(zip(asks, self._grants_w.tolist(), strict=True))
        wanted = grants.allocate(self._members, {ROW: self._budget_w}, now, asks)
        return np.array([wanted[member.node] for member in self._members])

    def _steered_w(self, busy_w: Floats) -> Floats:
        """Return a band above what each drew; where they do not fit, low priority gives down to its floor."""
        floors = np.array([member.floor_w for member in self._members])
        ceilings = np.array([member.ceiling_w for member in self._members])
        wanted = np.clip(busy_w * ROOM_RATIO, floors, ceilings)
        for low in (True, False):
            over_w = float(wanted.sum()) - self._budget_w
            give = np.where([member.high is not low for member in self._members], wanted - floors, 0.0)
            if over_w > 0 and give.sum() > 0:
                wanted = wanted - give * min(1.0, over_w / give.sum())
        return wanted + max(self._budget_w - float(wanted.sum()), 0.0) / len(wanted)

    def _boards_w(self, busy_w: Floats) -> Floats:
        """Return what one board of each server drew, from what the server drew."""
        t = self._tables
        return np.asarray(np.interp(busy_w, [t.idle_w, t.prefill_w[-1]], [t.idle_board_w, t.prefill_board_w[-1]]))


def of(kind: Kind, row: Row, demand: loop.Demand) -> Setter:
    """Return who sets limits under a kind of system."""
    match kind:
        case Kind.CLOCKS:
            return Free()
        case Kind.EVEN_LIMITS:
            return Even(row, demand)
        case Kind.STEERED_LIMITS:
            return Moving(row, demand, steered=True)
        case Kind.GRANTS:
            return Moving(row, demand, steered=False)


def _members(row: Row, demand: loop.Demand) -> tuple[grants.Member, ...]:
    server, boards = row.kind.server, row.kind.profile.draw
    return tuple(
        grants.Member(
            node=f"server-{i}",
            domains=(ROW,),
            gpus=physics.GPUS,
            non_gpu_worst_w=server.other_worst_w,
            supply_efficiency_ratio=server.supply_efficiency_ratio,
            min_limit_w=boards.min_limit_w,
            max_limit_w=boards.limit_w,
            high=demand.low[i] == 0,
        )
        for i in range(row.count)
    )


def _limits_w(members: tuple[grants.Member, ...], granted_w: Floats) -> Floats:
    pairs = zip(members, granted_w, strict=True)
    return np.array([_limit_w(member, granted) for member, granted in pairs])


def _limit_w(member: grants.Member, granted_w: float) -> float:
    """Return the limit of a server's boards; 0 where its grant is below their lowest."""
    if not grants.joins(member, granted_w):
        return 0.0
    return max(grants.limit_w(member, granted_w), member.min_limit_w)
