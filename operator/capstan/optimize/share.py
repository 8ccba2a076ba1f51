"""GPUs of the fleet over policies: what serves first, then what will, then what only saves joules; high priority first.

Who calls it: `decide`, at the start of a cycle, with what each policy asked for in the last one. Must not know: pools.
The order of policies never matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan.model.policy import Priority


@dataclass(frozen=True, slots=True)
class Claim:
    """What one policy asks of the GPUs of a product.

    Attributes:
        needed: The fewest with which it keeps its SLO at full clock under the load that is there (`needs`).
        ready: The fewest for the peak that it is to be ready for.
        planned: What its last plan has: more where more GPUs at lower clocks draw less, fewer where it was denied some.
        held: What its pods have, those that drain included.
    """

    policy: str
    product: str | None
    priority: Priority
    planned: int
    needed: int = 0
    ready: int = 0
    held: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        """What it asks for in turn, each beyond the one before."""
        ready, whole = max(self.needed, self.ready), self.whole
        return self.needed, ready - self.needed, whole - ready

    @property
    def whole(self) -> int:
        """All that it asks for."""
        return max(self.needed, self.ready, self.planned)


def limits(claims: Sequence[Claim], gpus: Mapping[str, int]) -> dict[str, int]:
    """Return the GPUs that each policy may have; one without an entry is not limited.

    Where all that is asked for fits, each may grow into what is free (two that grow at once are told apart in the next
    cycle). Where it does not, each has what it is `dealt`; and who has planned more keeps it for as long as all plans
    fit: what is given up before anybody can take it up serves nobody.
    """
    found: dict[str, int] = {}
    for product, total in gpus.items():
        own = [claim for claim in claims if claim.product == product]
        each, free = dealt(own, total), total - sum(claim.whole for claim in own)
        plans_fit = sum(claim.planned for claim in own) <= total
        for claim in own:
            had = each[claim.policy]
            found[claim.policy] = had + free if free >= 0 else max(had, claim.planned if plans_fit else 0)
    return found


def dealt(claims: Sequence[Claim], total: int) -> dict[str, int]:
    """Return what each claim on some GPUs has of them, never more together than there are.

    Nobody is denied what serves for what others would be ready with, nor that for what saves others joules. Of each of
    the three high priority has its part first, and equals share by what they ask for, rounded down.
    """
    had = {claim.policy: 0 for claim in claims}
    left = total
    for part in range(3):
        for priority in (Priority.HIGH, Priority.LOW):
            asked = {claim.policy: claim.parts[part] for claim in claims if claim.priority is priority}
            whole = sum(asked.values())
            for policy, own in asked.items():
                had[policy] += own if whole <= left else left * own // whole
            left = max(left - whole, 0)
    return had


def spare(claims: Sequence[Claim], gpus: Mapping[str, int]) -> dict[str, int]:
    """Return the GPUs that nobody holds, for each policy that shares its product with others who hold some.

    What a policy may have beyond them others still hold: they give it back in pieces, on nodes that nobody chooses. Who
    is alone on its GPUs makes room on its own nodes, and has no entry.
    """
    found: dict[str, int] = {}
    for product, total in gpus.items():
        own = [claim for claim in claims if claim.product == product]
        held = sum(claim.held for claim in own)
        found |= {claim.policy: max(total - held, 0) for claim in own if held > claim.held}
    return found
