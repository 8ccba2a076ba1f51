"""Traces in and out: files of every known kind and Prometheus histories to columns, columns transformed and described.

Who calls it: `replay.load`, the command line, the rig. `Requests` of `replay.runs` is the one currency. Must not know:
policies, engines, who serves the requests.
"""

from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.layouts import Layout, custom
from capstan.replay.traces.reader import Dropped, Stream, Trace, read
from capstan.replay.traces.shared import shared_data, shared_data_at_hand
from capstan.replay.traces.transforms import (
    beyond,
    burst,
    compress,
    joined,
    objects,
    repeat,
    scale_rate,
    scale_time,
    steady,
    until,
    without,
)

__all__ = [
    "Dropped",
    "Layout",
    "Stream",
    "Trace",
    "TraceError",
    "beyond",
    "burst",
    "compress",
    "custom",
    "joined",
    "objects",
    "read",
    "repeat",
    "scale_rate",
    "scale_time",
    "shared_data",
    "shared_data_at_hand",
    "steady",
    "until",
    "without",
]
