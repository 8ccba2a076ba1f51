"""What acting for one policy came to.

Who calls it: `actuate` makes it; `status` and `report` tell it.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.model.reasons import Reason
from capstan.serving.conditions import Condition


@dataclass(frozen=True, slots=True)
class Scaled:
    """Replicas written to a workload."""

    workload: str
    before: int
    after: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What acting for one policy came to. `refused` holds the words of writes that were tried and not done."""

    conditions: tuple[Condition, ...]
    scaled: tuple[Scaled, ...] = ()
    refused: tuple[Condition, ...] = ()
