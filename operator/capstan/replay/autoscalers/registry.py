"""The autoscalers by name: what `--systems` may say, and how each is made.

Who calls it: `app.replay` and the tests. Importing it does nothing but name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from capstan.replay.autoscalers import aibrix, clocks, dynamo_load, dynamo_sla, keda, kubeai, queue, wva, wva_tokens
from capstan.replay.seen import System

REGISTRY: Mapping[str, Callable[[], System]] = MappingProxyType(
    {
        "hpa-queue": queue.system,
        "keda-slo": keda.system,
        "wva-v1": wva.system,
        "wva-v2": wva_tokens.system,
        "aibrix-apa": aibrix.apa_system,
        "aibrix-kpa": aibrix.kpa_system,
        "dynamo-sla": dynamo_sla.system,
        "dynamo-load": dynamo_load.system,
        "kubeai": kubeai.system,
        "static-clock": clocks.static_system,
        "throttllem-like": clocks.throttllem_system,
        "voltana-like": clocks.voltana_system,
    }
)
"""What `all` means: the set of facts/autoscalers.md 1.9, and the clock rules of facts/dynamollm.md 5."""

VARIANTS: Mapping[str, Callable[[], System]] = MappingProxyType(
    {
        "aibrix-kpa-faithful": aibrix.kpa_faithful_system,
        "kubeai-shipped": kubeai.shipped_system,
        "dynamo-load-throughput": dynamo_load.easy_system,
        "dynamo-load-latency": dynamo_load.easy_latency_system,
    }
)
"""Other modes of the same, run when named: as shipped where the list has the mode that is fairer to them."""
