"""A rack under watt grants.

4 servers of 4 boards, 200 to 700 W, 500 W beside them at worst. A limit L needs a grant of (4 L x 1.05 + 500) / (0.94 x
0.97): 1,469.7 W at 200 W, so a floor of 1,470; 3,772.8 W at 700 W, so a ceiling of 3,773. Nameplate: 3,659.6 W each.
"""

from __future__ import annotations

from typing import Any

from capstan.powercap.ledger import Entry
from support.power_loop import Site, conditions, domain

FLOOR_W, CEILING_W, EVEN_W = 1470, 3773, 3000
IN_FORCE_S = 8


def granting(budget_w: int = 12_000, **spec: Any) -> Site:
    site = Site(domain(budget_w=budget_w, strategy="Guaranteed", **spec))
    site.fleet.limited = True
    return site


async def half_way() -> Site:
    """Thresholds hold, and grants are told and not yet read back."""
    site = Site(domain())
    site.fleet.limited = True
    await site.run(5)
    site.api.edit(domain(strategy="Guaranteed"))
    await site.run(3)
    return site


def entries(site: Site, root: str = "rack-7") -> dict[str, Entry]:
    return {entry.node: entry for entry in site.ledgers.stored[root].ledger.entries}


def limits(site: Site) -> dict[str, float | None]:
    return {node: agent.caps.power_limit_w for node, agent in site.fleet.agents.items()}


def held_w(site: Site) -> float:
    return sum(entry.held_w for entry in entries(site).values())


def said(site: Site, kind: str) -> tuple[str, str]:
    return conditions(site.api.statuses[-1])[kind]
