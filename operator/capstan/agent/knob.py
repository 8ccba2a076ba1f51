"""One thing that a setter sets per GPU, clock or board limit: what it wrote, what it may have written, what came of it.

Who calls it: `setter`. Between a write and its answer nobody knows which of two values is in force: the GPU counts as
not written, and the tighter one is remembered, so that a crash or a hung driver never ends in a looser guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from capstan.agent.lanes import Lanes
from capstan.agent.limits import Rate
from capstan.agent.protocol import Answer

Apply = Callable[[str, float | None], float | None]
"""Writes a value into a GPU (None: its stock setting) and returns what is in force; raises `Failed`, and may hang."""


class Knob:
    """The values of one kind, by GPU.

    Args:
        unit: The protocol's word for a value: megahertz or watts.
        apply: The driver call.
        lanes: One thread per GPU.
        kept: What an earlier run set.
        changed: Called when `kept` changed.
    """

    def __init__(
        self, unit: str, apply: Apply, lanes: Lanes, kept: Mapping[str, float], changed: Callable[[], None]
    ) -> None:
        self.kept: dict[str, float] = dict(kept)
        self._unit = unit
        self._apply = apply
        self._lanes = lanes
        self._changed = changed
        self._rate = Rate()
        self._written: dict[str, float | None] = {}
        self._in_force: dict[str, float] = {}

    async def ask(self, uuid: str, wanted: float | None, *, again: bool, now_s: float) -> Answer:
        """Set one GPU for a peer: nothing is written twice, unless `again`; not too often. Raises Failed."""
        known, before = uuid in self._written, self._written.get(uuid)
        if known and before == wanted and not again:
            return {"suppressed": True, **self._told(uuid)}
        self._rate.take(uuid, now_s, loosens=known and before is not None and tighter(before, wanted) != wanted)
        await self.write(uuid, wanted)
        return self._told(uuid)

    async def write(self, uuid: str, wanted: float | None) -> None:
        """Set one GPU. Raises Failed."""
        self._written.pop(uuid, None)
        self._keep(uuid, tighter(self.kept.get(uuid), wanted))
        in_force = await self._lanes.run(uuid, partial(self._apply, uuid, wanted))
        self._written[uuid] = wanted
        self._in_force.pop(uuid, None)
        if in_force is not None:
            self._in_force[uuid] = in_force
        self._keep(uuid, wanted)

    async def tighten(self, uuid: str, to: float | None) -> None:
        """Write the tighter of `to` and what was set last, whether it was written before or not. Raises Failed."""
        await self.write(uuid, tighter(self.kept.get(uuid), to))

    def _told(self, uuid: str) -> Answer:
        return {self._unit: self._in_force[uuid]} if uuid in self._in_force else {}

    def _keep(self, uuid: str, value: float | None) -> None:
        if self.kept.get(uuid) == value:
            return
        if value is None:
            del self.kept[uuid]
        else:
            self.kept[uuid] = value
        self._changed()


def tighter(one: float | None, other: float | None) -> float | None:
    """Return the lower of two values; None is the stock setting, which is the loosest."""
    return min((value for value in (one, other) if value is not None), default=None)
