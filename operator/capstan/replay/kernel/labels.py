"""A replica changes its pool: on a cluster that is a label of its pod, so nothing starts and nothing stops.

Who calls it: `kernel.world`. What the replica has in hand stays with it; from now on it is routed its new pool's
requests, those that were held before that pool first.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.kernel.layout import Ints, Records


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
