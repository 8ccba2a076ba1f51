"""What one cycle came to, as a value; and the one log line that tells it.

Who calls it: `cycle` makes it, metrics and the log print it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capstan.api import status
from capstan.model import sample
from capstan.model.plan import PolicyDecision
from capstan.serving.status import News

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that was not done: which knob or object, and why."""

    knob: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """One cycle. Ages and durations in seconds; `statuses` and `node_plans` count writes."""

    now_s: float
    news: tuple[News, ...]
    unread: tuple[str, ...] = ()
    cluster_age_s: float = 0.0
    engine_age_s: float | None = None
    gpu_age_s: float | None = None
    source_errors: tuple[str, ...] = ()
    statuses: int = 0
    node_plans: int = 0
    refusals: tuple[Refusal, ...] = ()
    steps_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Return how long the cycle took."""
        return sum(self.steps_s.values())


def line(report: Report) -> dict[str, object]:
    """Return the canonical log line: input ages, plans with their reasons, writes, step durations."""
    ages = {"cluster": report.cluster_age_s, "engine": report.engine_age_s, "gpu": report.gpu_age_s}
    found: dict[str, object] = {
        "event": "cycle",
        "ages_s": {k: round(v, 2) for k, v in ages.items() if v is not None},
        "policies": [_policy(n) for n in report.news],
        "writes": {
            "scale": sum(len(n.scaled) for n in report.news),
            "status": report.statuses,
            "nodeCap": report.node_plans,
        },
        "steps_ms": {k: round(1000 * v, 1) for k, v in report.steps_s.items()},
    }
    if report.source_errors:
        found["sourceErrors"] = list(report.source_errors)
    if report.unread:
        found["unread"] = list(report.unread)
    if report.refusals:
        found["refused"] = [f"{r.knob}: {r.reason}: {r.message}" for r in report.refusals]
    return found


def _policy(news: News) -> dict[str, object]:
    decision, seen = news.decision, news.seen
    rate = seen.arrival_rps
    return {
        "policy": news.view.key,
        "plan": status.summary(decision.pools),
        "replicasReason": decision.replicas_reason.value,
        "clockReason": decision.clock_reason.value,
        **_advice(decision),
        "ready": sum(p.ready for p in news.view.pools),
        "arrivalRps": round(rate.value, 3) if isinstance(rate, sample.Fresh) else _word(rate),
        "bad": [f"{c.type.value}={c.reason.value}" for c in news.conditions if c.bad],
    }


def _advice(decision: PolicyDecision) -> Json:
    """Return the part of a line that only a policy with advice has."""
    if not decision.advice:
        return {}
    reason = decision.advice_reason
    words = {"advice": status.summary(decision.advice), "tensorParallelReason": decision.tp_reason.value}
    return words if reason is None else {**words, "adviceReason": reason.value}


def _word(value: sample.Stale[float] | sample.Missing) -> str:
    return value.reason.value if isinstance(value, sample.Missing) else f"stale {value.age_s:.0f} s"
