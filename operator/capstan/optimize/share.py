"""GPUs of the fleet over policies: first what serves, then what may have to, then what only saves joules.

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
        step: Of one replica.
    """

    policy: str
    product: str | None
    priority: Priority
    planned: int
    needed: int = 0
    ready: int = 0
    held: int = 0
    step: int = 1

    @property
    def reserve(self) -> int:
        """What makes it ready, beyond what it needs."""
        return max(self.ready - self.needed, 0)

    @property
    def beyond(self) -> int:
        """What only saves joules."""
        return max(self.planned - self.needed - self.reserve, 0)

    @property
    def whole(self) -> int:
        """All that it asks for."""
        return self.needed + self.reserve + self.beyond


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

    Nobody is denied what serves for what others would be ready with, nor that for what saves others joules. High
    priority is served first, and saves first. A reserve is against what may never come, and it takes minutes and watts
    to get back: all have a replica of it in turn.
    """
    left = total - sum(claim.needed for claim in claims)
    serving = _by_priority(claims, {claim.policy: claim.needed for claim in claims}, total)
    reserves = _in_turn(claims, left)
    left -= sum(claim.reserve for claim in claims)
    beyond = _by_priority(claims, {claim.policy: claim.beyond for claim in claims}, max(left, 0))
    return {claim.policy: sum(part[claim.policy] for part in (serving, reserves, beyond)) for claim in claims}


def _by_priority(claims: Sequence[Claim], asked: Mapping[str, int], left: int) -> dict[str, int]:
    """Return what is asked for where it fits, high priority first; equals share by what they ask for, rounded down."""
    had: dict[str, int] = {}
    for priority in (Priority.HIGH, Priority.LOW):
        equals = [claim.policy for claim in claims if claim.priority is priority]
        whole = sum(asked[policy] for policy in equals)
        had |= {policy: asked[policy] if whole <= left else left * asked[policy] // whole for policy in equals}
        left = max(left - whole, 0)
    return had


def _in_turn(claims: Sequence[Claim], left: int) -> dict[str, int]:
    """Return the reserves where they fit; else a replica each in turn, until one does not fit and has what is left."""
    had = {claim.policy: claim.reserve for claim in claims}
    if sum(had.values()) <= left:
        return had
    had = dict.fromkeys(had, 0)
    order = sorted(claims, key=lambda claim: (claim.priority is Priority.LOW, claim.policy))
    while left > 0:
        for claim in order:
            more = min(claim.step, claim.reserve - had[claim.policy], left)
            had[claim.policy] += more
            left -= more
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
