"""Latencies of a policy's pods that a PowerDomain caps, and of its other pods: what a cap costs, told apart.

Who calls it: `cycle`, for `/metrics`. Pure. Requests are told apart by the pod that served them and where it stands:
for one rate window after a cap comes or goes some of the other kind are among them. Must not know: decisions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from capstan.model import reading
from capstan.serving.observe import FRESH_S, Sources
from capstan.serving.view import View


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles at the SLO's percentile over the rate window; None where nothing fresh was counted."""

    capped: bool
    ttft_s: float | None
    tpot_s: float | None


def by_cap(view: View, seen: Sources, capped_nodes: Container[str]) -> tuple[Latency, ...]:
    """Return the latencies of capped pods and of the others; of neither where no pod has fresh readings."""
    ratio = view.policy.slo.percentile_ratio
    found = tuple(_fresh(view, seen))
    groups = {capped: [r for node, r in found if (node in capped_nodes) == capped] for capped in (False, True)}
    return tuple(
        Latency(capped, _quantile_s((r.ttft for r in of), ratio), _quantile_s((r.tpot for r in of), ratio))
        for capped, of in groups.items()
        if of
    )


def _fresh(view: View, seen: Sources) -> Iterator[tuple[str, reading.PodReading]]:
    """Yield (node, reading) of the pods whose engine was scraped lately."""
    for pod in view.pods:
        found = seen.readings.get(pod.key)
        if found is not None and found.age_s is not None and found.age_s + seen.age_s <= FRESH_S:
            yield pod.node, found


def _quantile_s(histograms: Iterable[reading.Histogram | None], ratio: float) -> float | None:
    whole = reading.merged(histograms)
    return None if whole is None else reading.quantile_s(whole, ratio)
