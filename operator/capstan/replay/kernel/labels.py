"""A replica changes its pool, or a pool its phase: on a cluster labels of pods, so nothing starts and nothing stops.

Who calls it: `kernel.world`. What the replica has in hand stays with it; from now on it is routed its new pool's
requests, those that were held before that pool first.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.kernel.layout import NOBODY, Ints, Records
from capstan.replay.kernel.rules import HandOver, check_landings, numbers


def move(pools: Records, members: Ints, rows: Records, slot: int, pool: int) -> None:
    """Take a replica out of its pool's members and put it among those of another, in order of slot."""
    r = rows[slot]
    old = r["pool"]
    kept = members[old, : pools[old]["members"]]
    kept = kept[kept != slot]
    members[old, : len(kept)] = kept
    pools[old]["members"] = len(kept)
    own = np.sort(np.append(members[pool, : pools[pool]["members"]], slot))
    members[pool, : len(own)] = own
    pools[pool]["members"] = len(own)
    r["pool"] = pool
    r["hands_to"] = pools[pool]["hands_to"]


def hand_over(w: np.void, pools: Records, rows: Records, said: HandOver) -> None:
    """Let pools hand over as is said from now on; what is on its way lands where it was sent."""
    check_landings(said.decode_pool, [None] * len(pools))
    pools["hands_to"] = numbers(said.decode_pool)
    rows["hands_to"] = pools["hands_to"][rows["pool"]]
    if not w["handing"]:
        w["handing"] = any(pool is not None for pool in said.decode_pool)
        w["landing"] = NOBODY
    w["link_setup_s"], w["link_bytes_per_s"] = said.link_setup_s, said.link_bytes_per_s
