"""The compiled kernel of the world: replicas of one service that leap from event to event.

Who calls it: `replay.engine`, `replay.pool`, `replay.noted` and the searches, through `World`. Must not know:
policies, systems, files other than its compiler's cache. numba is imported when the first world is made, not before.

`layout` tables, `heap` and `joules` what an engine books, `leaps`, `urgency`, `handover` and `steps` its rules,
`routes` who gets a request, `labels` replicas that change their pool, `play` the world's events, `compiling` and
`entries` machine code of these very files and of the formulas in `model`, `world` the class, `rules` what it is told.
"""

from capstan.replay.kernel.layout import DRAINING, FREE, READY, STARTING, parameters
from capstan.replay.kernel.rules import Emergency, HandOver
from capstan.replay.kernel.world import Totals, World

__all__ = ["DRAINING", "FREE", "READY", "STARTING", "Emergency", "HandOver", "Totals", "World", "parameters"]
