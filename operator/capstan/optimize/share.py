"""GPUs of the fleet over policies: high priority first, equals in proportion to what they want.

Who calls it: `decide`, at the start of a cycle, with what each policy wanted in the last one. Must not know: pools.
The order of policies never matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan.model.policy import Priority


@dataclass(frozen=True, slots=True)
class Claim:
    """What one policy wants of the GPUs of a product, and how many its pods have, those that drain included."""

    policy: str
    product: str | None
    priority: Priority
    gpus: int
    held: int = 0


def limits(claims: Sequence[Claim], gpus: Mapping[str, int]) -> dict[str, int]:
    """Return the GPUs that each policy may have; one without an entry is not limited.

    Where all wants fit, each may grow into what is free (two that grow at once are told apart in the next cycle).
    Where they do not, high priority is served in full first, and equals share by what they want, rounded down.
    """
    found: dict[str, int] = {}
    for product, total in gpus.items():
        own = [claim for claim in claims if claim.product == product]
        left = total
        for priority in (Priority.HIGH, Priority.LOW):
            equals = [claim for claim in own if claim.priority is priority]
            wanted = sum(claim.gpus for claim in equals)
            for claim in equals:
                fits = wanted <= left
                found[claim.policy] = claim.gpus + left - wanted if fits else left * claim.gpus // max(wanted, 1)
            left = max(left - wanted, 0)
    return found


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
