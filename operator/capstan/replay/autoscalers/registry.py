"""The autoscalers by name: what `--systems` may say, and how each is made.

Who calls it: `app.replay` and the tests. Importing it does nothing but name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from capstan.replay.autoscalers import keda, queue
from capstan.replay.seen import System

REGISTRY: Mapping[str, Callable[[], System]] = MappingProxyType(
    {
        "hpa-queue": queue.system,
        "keda-slo": keda.system,
    }
)
