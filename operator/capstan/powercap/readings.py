"""What the agents of some nodes said, as columns: a thousand domains of forty nodes are one tick's work.

Who calls it: `power.heard` and `replay.plant` fill the columns once, `step` and `safety` read them. Must not know:
budgets, levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.model.sample import Fresh, Stale
from capstan.powercap.domains import NodeSample

Floats = npt.NDArray[np.float64]

BEYOND_W = 1e6  # no node draws a megawatt: NVML's and DCGM's words for "no value" lie beyond
ABSURD_RATIO = 10.0  # of the boards' limits: a wrong limit or a peak is nearer, a wrong unit or "no value" beyond


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """One row per node.

    Attributes:
        nodes: Their names.
        heard_w: DC watts of a node's GPUs, where they may drive: fresh, and not absurd. NaN: it was not heard.
        seen_w: The most that is known of a node that was not heard; 0 where nothing is.
        worst_case_w: DC watts of all its GPUs at their largest board limit.
        gpus: How many it has.
        min_limit_w: The lowest board limit that its GPUs accept.
    """

    nodes: tuple[str, ...]
    heard_w: Floats
    seen_w: Floats
    worst_case_w: Floats
    gpus: Floats
    min_limit_w: Floats

    def of_nodes(self, nodes: tuple[str, ...]) -> Samples:
        """Return the rows of some nodes, in their order; those without a row are left out."""
        if nodes == self.nodes:
            return self
        row = {node: index for index, node in enumerate(self.nodes)}
        found = tuple(node for node in nodes if node in row)
        rows = [row[node] for node in found]
        return Samples(
            found,
            self.heard_w[rows],
            self.seen_w[rows],
            self.worst_case_w[rows],
            self.gpus[rows],
            self.min_limit_w[rows],
        )


def of(samples: Sequence[NodeSample]) -> Samples:
    """Return the columns of some samples.

    A node whose worst case nobody knows (its GPUs fell off the bus, its driver is gone) is taken for the largest of the
    others, unless it says what it draws.
    """
    known = [sample.worst_case_w for sample in samples if _is_known(sample.worst_case_w)]
    largest_w = max(known, default=0.0)
    return Samples(
        nodes=tuple(sample.node for sample in samples),
        heard_w=_column(_heard_w(sample) for sample in samples),
        seen_w=_column(_seen_w(sample) for sample in samples),
        worst_case_w=_column(_worst_w(sample, largest_w) for sample in samples),
        gpus=_column(float(sample.gpus) for sample in samples),
        min_limit_w=_column(_least_limit_w(sample, largest_w) for sample in samples),
    )


def _column(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def _is_known(watts: float) -> bool:
    return 0 < watts < BEYOND_W


def _heard_w(sample: NodeSample) -> float:
    match sample.gpus_w:
        case Fresh(value) if _is_possible(sample, value):
            return value
    return math.nan


def _seen_w(sample: NodeSample) -> float:
    match sample.gpus_w:
        case Stale(value) if _is_possible(sample, value):
            return value
    return 0.0


def _is_possible(sample: NodeSample, watts: float) -> bool:
    """Return whether boards could draw this."""
    most_w = ABSURD_RATIO * sample.worst_case_w if _is_known(sample.worst_case_w) else BEYOND_W
    return 0 <= watts <= most_w


def _worst_w(sample: NodeSample, largest_w: float) -> float:
    return sample.worst_case_w if _is_known(sample.worst_case_w) else largest_w


def _least_limit_w(sample: NodeSample, largest_w: float) -> float:
    """Return the lowest limit that the boards accept; where nobody knows, none below the largest."""
    limit_w = sample.min_limit_w
    return limit_w if math.isfinite(limit_w) and limit_w >= 0 else _worst_w(sample, largest_w) / max(sample.gpus, 1)
