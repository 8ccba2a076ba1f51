"""From views and readings to what the decision sees: counts, graded samples, and the join self-test.

Who calls it: `cycle`. Pure. Three kinds of nothing stay apart: the source is down, the series are not there, and
the series say that nobody asked for anything. Safe direction when blind: Missing, so that `decide` removes nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from capstan.model import fleet, mix, reading, sample, slo, workload
from capstan.model.reasons import Reason
from capstan.optimize import case
from capstan.serving.cluster import Node, Pod
from capstan.serving.conditions import Condition, Type
from capstan.serving.view import Pool, View

# Three scrapes of 15 s (what the chart's monitors ask for): one lost scrape is no reason to give up a plan.
FRESH_S = 45.0
# A new pod is scraped within two periods; one that is Ready for longer and still missing has the wrong labels.
JOIN_S = 30.0
NAMED_PODS = 5
MIN_MIX_REQUESTS = 30.0  # the share of a class of one in ten is then known to +-5 points; `decide` smooths the rest


@dataclass(frozen=True, slots=True)
class Sources:
    """What came from outside the API server in this cycle.

    Attributes:
        readings: What Prometheus said, by pod key.
        engine_error, gpu_error: Why a source is down, empty while it answers.
        age_s: How long ago `readings` were taken; added to every age in them.
        nodes: Node records, for the GPU product.
    """

    readings: Mapping[str, reading.PodReading]
    engine_error: str
    gpu_error: str
    age_s: float
    nodes: Mapping[str, Node]


def sources(readings: reading.Readings, nodes: Mapping[str, Node], *, now_s: float) -> Sources:
    """Return a cycle's sources."""
    errors = {s: readings.error_of(s) for s in reading.Source}
    texts = {s: "" if error is None else error.message for s, error in errors.items()}
    return Sources(
        readings={r.key: r for r in readings.pods},
        engine_error=texts[reading.Source.ENGINE],
        gpu_error=texts[reading.Source.GPU],
        age_s=max(now_s - readings.taken_at_s, 0.0),
        nodes=nodes,
    )


def lost_pods(view: View, seen: Sources, *, now_s: float) -> tuple[str, ...]:
    """Return the Ready pods that should be in the metrics and are not: the join self-test.

    Empty while the source is down: then nothing can be said about labels.
    """
    if seen.engine_error:
        return ()
    return tuple(p.name for p in view.pods if _settled(p, now_s) and not _read(p, seen))


def service(view: View, seen: Sources, *, now_s: float, capped: bool) -> fleet.ServiceObserved:
    """Return one policy as `decide` sees it.

    The arrival rate is a sum over pods, so it is given only when every settled pod is in it.
    """
    pools = tuple(_pool(pool, seen, now_s) for pool in view.pools if pool.workload is not None)
    gpu_product = next((p.gpu_product for p in pools if p.gpu_product is not None), None)
    power_w = _power(view, seen)
    absent = _absent(view, seen, now_s)
    if absent is not None:
        return fleet.ServiceObserved(
            view.key, pools, *(sample.Missing(absent),) * 9, power_w, sample.Missing(absent), gpu_product, capped
        )
    found = tuple(seen.readings[p.key] for p in view.pods if p.key in seen.readings)
    pooled = reading.pooled(found, percentile_ratio=view.policy.slo.percentile_ratio)
    grade = _grader(None if pooled.age_s is None else pooled.age_s + seen.age_s)
    idle = pooled.arrival_rps == 0
    none = Reason.NO_TRAFFIC if idle else Reason.NO_DATA
    return fleet.ServiceObserved(
        policy=view.key,
        pools=pools,
        arrival_rps=grade(pooled.arrival_rps, Reason.NO_DATA),
        prompt_tokens=grade(pooled.prompt_tokens, none),
        output_tokens=grade(pooled.output_tokens, none),
        running=grade(pooled.running, Reason.NO_DATA),
        waiting=grade(pooled.waiting, Reason.NO_DATA),
        ttft_s=grade(pooled.ttft_s, none),
        tpot_s=grade(pooled.tpot_s, none),
        sample_requests=grade(pooled.sample_requests, none),
        stress_ratio=grade(_stress(view, found, now_s), none),
        power_w=power_w,
        output_tokens_per_s=grade(pooled.output_tokens_per_s, none),
        gpu_product=gpu_product,
        capped=capped,
        classes=_classes(view, pooled),
        prompt_cv2_ratio=_spread(pooled),
    )


def metrics_condition(seen: fleet.ServiceObserved, lost: tuple[str, ...], engine_error: str) -> Condition:
    """Return MetricsAvailable: whether the load is known, and if not, whose turn it is."""
    if engine_error:
        return Condition(Type.METRICS_AVAILABLE, False, Reason.SOURCE_DOWN, engine_error)
    if lost:
        named = ", ".join(lost[:NAMED_PODS]) + (f" and {len(lost) - NAMED_PODS} more" if len(lost) > NAMED_PODS else "")
        message = (
            f"Ready and not in Prometheus: {named}. Check that the pods' /metrics are scraped and that the series "
            "carry the labels namespace and pod"
        )
        return Condition(Type.METRICS_AVAILABLE, False, Reason.LABEL_MISMATCH, message)
    match seen.arrival_rps:
        case sample.Missing(reason=Reason.STARTING):
            return Condition(Type.METRICS_AVAILABLE, None, Reason.STARTING, "no pod is Ready yet")
        case sample.Missing(reason=reason):
            return Condition(Type.METRICS_AVAILABLE, False, reason, "Prometheus has no vLLM series for these pods")
        case sample.Stale(age_s=age_s):
            message = f"the oldest scrape was {age_s:.0f} s ago, more than {FRESH_S:.0f} s"
            return Condition(Type.METRICS_AVAILABLE, False, Reason.STALE_DATA, message)
        case sample.Fresh(value=value):
            return Condition(Type.METRICS_AVAILABLE, True, Reason.FOUND if value > 0 else Reason.NO_TRAFFIC)


def running_by_pod(pods: Iterable[Pod], seen: Sources) -> dict[str, float]:
    """Return the requests in each pod, where known."""
    found = {p.key: seen.readings[p.key].running for p in pods if p.key in seen.readings}
    return {key: running for key, running in found.items() if running is not None}


def _settled(pod: Pod, now_s: float) -> bool:
    return pod.serving and pod.ready_since_s is not None and now_s - pod.ready_since_s > JOIN_S


def _read(pod: Pod, seen: Sources) -> bool:
    found = seen.readings.get(pod.key)
    return found is not None and found.arrival_rps is not None


def _absent(view: View, seen: Sources, now_s: float) -> Reason | None:
    """Return why nothing can be said about the load, or None."""
    if seen.engine_error:
        return Reason.SOURCE_DOWN
    if lost_pods(view, seen, now_s=now_s):
        return Reason.LABEL_MISMATCH
    if any(_read(p, seen) for p in view.pods):
        return None
    return Reason.NO_DATA if any(_settled(p, now_s) for p in view.pods) else Reason.STARTING


def _pool(pool: Pool, seen: Sources, now_s: float) -> fleet.PoolObserved:
    """Return one pool's counts.

    A Ready pod that no scrape has seen yet counts as starting: it takes load that the sums do not hold, so dividing
    the sums by a count that holds it would make every replica look idler than it is.
    """
    known = [p for p in pool.pods if p.serving and (_read(p, seen) or _settled(p, now_s) or seen.engine_error)]
    leaving = sum(p.draining for p in pool.pods)
    startups = [p.startup_s for p in pool.pods if p.startup_s is not None]
    products = (seen.nodes[p.node].gpu_product for p in pool.pods if p.node in seen.nodes)
    return fleet.PoolObserved(
        pool=pool.name,
        tp=pool.tp,
        desired=pool.workload.replicas if pool.workload is not None else 0,
        ready=len(known),
        starting=len(pool.pods) - leaving - len(known),
        terminating=leaving,
        gpu_product=next((p for p in products if p is not None), None),
        startup_s=statistics.median(startups) if startups else None,
        pending=sum(bool(p.blocked) and not p.draining for p in pool.pods),
    )


def _power(view: View, seen: Sources) -> sample.Sample[float]:
    """Return the watts of all GPUs of the policy; a sum that lacks a serving GPU is none."""
    if seen.gpu_error:
        return sample.Missing(Reason.SOURCE_DOWN)
    found = [seen.readings[p.key] for p in view.pods if p.key in seen.readings]
    pooled = reading.pooled(found, percentile_ratio=view.policy.slo.percentile_ratio)
    serving_gpus = sum(pool.tp * pool.ready for pool in view.pools)
    if pooled.power_w is None or pooled.power_age_s is None or pooled.gpus < serving_gpus:
        return sample.Missing(Reason.NO_DATA)
    return sample.graded(pooled.power_w, pooled.power_age_s + seen.age_s, limit_s=FRESH_S)


def _stress(view: View, found: tuple[reading.PodReading, ...], now_s: float) -> float | None:
    """Return how near its limits the policy was over the last minutes; None where nobody served all of them.

    A pod that has just begun tells of its own start, and Prometheus does not say that its window is shorter.
    """
    since = [pod.ready_since_s for pod in view.pods if pod.serving and pod.ready_since_s is not None]
    if not since or now_s - min(since) < slo.WINDOW_S:
        return None
    return reading.stress_ratio(found, view.policy.slo, least_requests=case.MIN_SAMPLE_REQUESTS)


def _classes(view: View, pooled: reading.Pooled) -> tuple[fleet.ClassDemand, ...]:
    """Return the demand per class where a plan rests on it; empty where too few requests tell their lengths."""
    pools, rate_rps, prompts, outputs = view.policy.pools, pooled.arrival_rps, pooled.prompts, pooled.outputs
    if not view.policy.tells_classes or rate_rps is None or prompts is None or outputs is None:
        return ()
    if min(prompts.histogram.total, outputs.histogram.total) < MIN_MIX_REQUESTS:
        return ()
    return mix.demands(rate_rps, prompts, outputs, pools.edges)


def _spread(pooled: reading.Pooled) -> float | None:
    """Return how much prompt lengths vary; None where no prompt was counted."""
    if pooled.prompts is None or pooled.prompts.histogram.total <= 0:
        return None
    found = mix.cv2_ratio(pooled.prompts)
    return None if found is None else workload.spread_ratio(found, pooled.prompts.histogram.total)


def _grader(age_s: float | None) -> Callable[[float | None, Reason], sample.Sample[float]]:
    """Return how to grade a value of this age; None values say why they are missing."""

    def grade(value: float | None, missing: Reason) -> sample.Sample[float]:
        if value is None or age_s is None:
            return sample.Missing(missing)
        return sample.graded(value, age_s, limit_s=FRESH_S)

    return grade
