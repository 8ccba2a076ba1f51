"""What is said of a service, without what cannot be: a figure that is no number, infinite or below zero is missing.

Who calls it: `decide`, before anything is remembered. Must not know: who said it. Prometheus divides zero by zero and
says NaN; one such answer must not reach a memory that half an hour of decisions rests on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from capstan.model import fleet
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample

NONSENSE = Missing(Reason.SOURCE_DOWN)
MEASURED = (
    "arrival_rps", "prompt_tokens", "output_tokens", "running", "waiting", "ttft_s", "tpot_s", "sample_requests",
    "stress_ratio", "power_w", "output_tokens_per_s",
)  # fmt: skip

LEAST = {"prompt_tokens": 1.0, "output_tokens": 1.0}  # per request; a mean below it counts something else


def service(seen: fleet.ServiceObserved) -> fleet.ServiceObserved:
    """Return what was seen of a service with `Missing` for what cannot be; the same record where all of it can."""
    wrong = [name for name in MEASURED if not _can_be(getattr(seen, name), LEAST.get(name, 0.0))]
    classes = tuple(one for one in seen.classes if one.arrival_rps > 0 and _numbers(_figures(one)))
    lanes = tuple(service(lane) for lane in seen.lanes)
    if not wrong and len(classes) == len(seen.classes) and lanes == seen.lanes:
        return seen
    changes = dict.fromkeys(wrong, NONSENSE)
    return dataclasses.replace(seen, **changes, classes=classes, lanes=lanes)  # type: ignore[arg-type]  # names above


def _can_be(sample: Sample[float], least: float) -> bool:
    return not isinstance(sample, Fresh) or (_numbers((sample.value,)) and sample.value >= least)


def _numbers(figures: Iterable[float]) -> bool:
    return all(math.isfinite(figure) and figure >= 0 for figure in figures)


def _figures(one: fleet.ClassDemand) -> tuple[float, ...]:
    return one.arrival_rps, one.prompt_tokens, one.output_tokens, one.prompt_cv2_ratio
