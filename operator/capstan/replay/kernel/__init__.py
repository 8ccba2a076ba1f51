"""The world at full speed: engines that leap from event to event, compiled (docs/designs: physics and replay).

Who calls it: `replay.pool`, `replay.engine`. numba is imported when the first `World` is made, never before.
"""

from capstan.replay.kernel.layout import DRAINING, FREE, GONE, READY, STARTING
from capstan.replay.kernel.world import Totals, World

__all__ = ["DRAINING", "FREE", "GONE", "READY", "STARTING", "Totals", "World"]
