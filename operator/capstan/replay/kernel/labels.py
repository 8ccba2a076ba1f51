"""A replica changes its pool: on a cluster that is a label of its pod, so nothing starts and nothing stops.

Who calls it: `kernel.world`. What the replica has in hand stays with it; from now on it is routed its new pool's
requests, those that were held before that pool first.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.kernel.layout import READY, Ints, Records


def move(w: np.void, pools: Records, members: Ints, rows: Records, slot: int, pool: int) -> None:
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
    if r["state"] == READY and pools[pool]["held"] > 0:
        w["next_ready_s"] = min(w["next_ready_s"], w["now_s"])
