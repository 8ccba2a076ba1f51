"""Every default of the rebuilt autoscalers, frozen in one place, each with its source.

Who calls it: the files beside this one, and `capstan gen`, which prints `docs/reference/autoscalers.md` from it. Must
not know: any formula.

Tags of a source: [C] read in source code, a chart or a published package; [X] a vendor's page or an issue; [M] from
memory; [I] inferred or chosen here, with the reason; [P] a paper. "section 1.x" is that of facts/autoscalers.md, the
project's notes. Where a choice was ours it was made in favour of the autoscaler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

Value = TypeVar("Value")


def _from(source: str, value: Value) -> Value:
    """Return a dataclass field with a default and the place it comes from (`source_of` reads it back)."""
    made: Value = field(default=value, metadata={"source": source})
    return made


@dataclass(frozen=True, slots=True)
class Rate:
    """One scaling policy of an HPA: at most `amount` pods (or percent of the pods) within any `period_s`."""

    amount: float
    percent: bool
    period_s: float


@dataclass(frozen=True, slots=True)
class Hpa:
    """The Horizontal Pod Autoscaler of kube-controller-manager, as it stands when nothing is configured."""

    period_s: float = _from("[M] --horizontal-pod-autoscaler-sync-period, section 1.5", 15.0)
    tolerance_ratio: float = _from(
        "[M] --horizontal-pod-autoscaler-tolerance, section 1.5; the same in its tests [C]", 0.1
    )
    up_window_s: float = _from("[M] scaleUp.stabilizationWindowSeconds, section 1.5", 0.0)
    down_window_s: float = _from("[M] --horizontal-pod-autoscaler-downscale-stabilization, section 1.5", 300.0)
    up_rates: tuple[Rate, ...] = _from(
        "[M] max(100 %, 4 pods) per 15 s, section 1.5", (Rate(100, percent=True, period_s=15), Rate(4, False, 15))
    )
    down_rates: tuple[Rate, ...] = _from("[M] 100 % per 15 s, section 1.5", (Rate(100, percent=True, period_s=15),))


@dataclass(frozen=True, slots=True)
class LoadTest:
    """How the target of an HPA on requests in flight is found: the load test that its guides tell people to run.

    GKE's guide has people push one replica until the latency limit and set the threshold from that. Here the believed
    profile is the test bench and the lengths are those seen so far; a person does this once, here it follows the mix.
    """

    target_ratio: float = _from("[I] room for an HPA's 10 % tolerance and a pod that still starts", 0.8)
    prompt_tokens: float = _from("[M] before anything has finished: benchmark default of vLLM (random input)", 1024.0)
    output_tokens: float = _from("[M] before anything has finished: benchmark default of vLLM (random output)", 128.0)
    window_s: float = _from("[I] lengths are means over at most this long", 3600.0)
    least_requests: int = _from("[I] fewer say nothing about a mean", 100)
    period_s: float = _from("[I] the target is found again this often", 300.0)


@dataclass(frozen=True, slots=True)
class KedaSlo:
    """llm-d's latency-driven KEDA scaler; the exact piecewise text was not readable, its shape is [I]."""

    quantile_ratio: float = _from("[X] P90 of TTFT and TPOT, section 1.2", 0.9)
    window_s: float = _from("[X] 1-minute rates, section 1.2", 60.0)
    smoothing_s: float = _from("[X] section 1.2; as a mean over the samples [I]", 45.0)
    most_ratio: float = _from("[X] section 1.2", 2.0)
    up_ratio: float = _from("[X] section 1.2", 0.55)
    down_ratio: float = _from("[X] section 1.2", 0.40)
    up_rates: tuple[Rate, ...] = _from(
        "[X] max(100 %, 4 pods) per 60 s, section 1.2", (Rate(100, percent=True, period_s=60), Rate(4, False, 60))
    )
    down_rates: tuple[Rate, ...] = _from("[X] 1 pod per 120 s, section 1.2", (Rate(1, percent=False, period_s=120),))


@dataclass(frozen=True, slots=True)
class WvaV1:
    """llm-d's Workload Variant Autoscaler, saturation analyser (its default), with the HPA that acts on its word."""

    period_s: float = _from("[C] section 1.1", 60.0)
    window_s: float = _from("[C] peaks over 1 minute, section 1.1", 60.0)
    kv_usage: float = _from("[C] saturated at this KV usage, section 1.1", 0.80)
    waiting: float = _from("[C] saturated at this queue, section 1.1", 5.0)
    spare_kv_usage: float = _from("[C] up below this mean spare, section 1.1", 0.10)
    spare_waiting: float = _from("[C] up below this mean spare, section 1.1", 3.0)
    hpa_tolerance_ratio: float = _from(
        "[I] per-direction tolerance of the newer API set to 0: with 0.1 the stage would ignore +-1 above 10 replicas",
        0.0,
    )


@dataclass(frozen=True, slots=True)
class WvaV2:
    """The same autoscaler's token analyser."""

    period_s: float = _from("[C] section 1.1", 60.0)
    kv_usage: float = _from("[C] k1 = 0.80 x blocks x block size, section 1.1", 0.80)
    queue_threshold: int = _from("[C] V1's queue threshold, section 1.1", 5)
    history: int = _from("[C] mean of the last 10 observations, section 1.1", 10)
    up_ratio: float = _from("[C] demand / 0.85, section 1.1", 0.85)
    down_ratio: float = _from("[C] demand / 0.70, section 1.1", 0.70)
    lengths_window_s: float = _from("[I] means of the lengths over this long", 300.0)


@dataclass(frozen=True, slots=True)
class Aibrix:
    """AIBrix PodAutoscaler: APA and KPA on requests in flight per pod, against the load-tested target above.

    Metric and target are the user's. Its sample (samples/autoscaling/kpa.yaml) has KV usage at 0.5; an engine whose
    chunk budget binds first never gets there, and would be left with one replica.
    """

    period_s: float = _from("[C] section 1.3", 10.0)
    stable_s: float = _from("[C] section 1.3", 180.0)
    panic_s: float = _from("[C] section 1.3", 60.0)
    tolerance_ratio: float = _from("[C] section 1.3", 0.1)
    most_up_ratio: float = _from("[C] section 1.3", 2.0)
    most_down_ratio: float = _from("[C] section 1.3", 2.0)
    panic_ratio: float = _from("[C] panic above twice the stable value, section 1.3", 2.0)
    up_cooldown_s: float = _from("[C] section 1.3", 0.0)
    down_cooldown_s: float = _from("[C] the MINIMUM of this window, a quirk, section 1.3", 300.0)
    repaired: bool = _from("[I] the sum over pods, not their mean: as shipped, KPA converges to a wrong count", True)


@dataclass(frozen=True, slots=True)
class Kubeai:
    """KubeAI's autoscaler on requests in flight at its proxy, against the load-tested target above."""

    period_s: float = _from("[C] charts/kubeai/values.yaml modelAutoscaling.interval", 10.0)
    window_s: float = _from("[C] charts/kubeai/values.yaml modelAutoscaling.timeWindow", 600.0)
    target_requests: float = _from("[M] Model.spec.targetRequests where it is left alone: `kubeai-shipped`", 100.0)
    load_tested: bool = _from("[I] the target is the user's to set, as an HPA's", True)
    lower_verdicts: int = _from("[C] scaleDownDelay / interval, section 1.6", 3)


@dataclass(frozen=True, slots=True)
class DynamoSla:
    """NVIDIA Dynamo's older SLA planner (correction factors). It knew only separate prefill and decode engines."""

    period_s: float = _from("[C] throughput_adjustment_interval_seconds, ai-dynamo 1.4.2; section 1.4", 180.0)
    least_replicas: int = _from("[C] min_endpoint", 1)
    mean_quantile_ratio: float = _from("[I] it reads mean latencies; the telemetry here has quantiles", 0.5)
    # forecast of the next interval: its `constant` predictor (the last one); `arima` needs a package of its own [I]


@dataclass(frozen=True, slots=True)
class DynamoLoad:
    """The planner of ai-dynamo 1.4.2, aggregated engines: load loop with the throughput loop as its floor."""

    period_s: float = _from("[C] load_adjustment_interval_seconds, section 1.4", 5.0)
    throughput_period_s: float = _from("[C] throughput_adjustment_interval_seconds, section 1.4", 180.0)
    sla: bool = _from("[I] SLA mode, so that it knows the limits as the others do; shipped: throughput mode", True)
    down_ratio: float = _from("[C] load_scaling_down_sensitivity 80, section 1.4", 0.8)
    up_usage: float = _from("[C] throughput mode, KV usage with what is queued; latency mode 0.4", 1.0)
    down_usage: float = _from("[C] throughput mode; latency mode 0.1", 0.6)
    least_replicas: int = _from("[C] min_endpoint", 1)
    lengths_window_s: float = _from("[I] mean lengths over the throughput interval", 180.0)


@dataclass(frozen=True, slots=True)
class StaticClock:
    """One clock for good, under `hpa-queue`: the lowest that keeps the SLO at that HPA's target load."""

    period_s: float = _from("[I] how often it looks whether enough has been seen to choose", 60.0)
    least_span_s: float = _from("[I] two start-ups and more of traffic before a choice that is never revised", 600.0)
    margin_ratio: float = _from("[I] that of the target's load test (optimize.sizing)", 0.9)


@dataclass(frozen=True, slots=True)
class Throttllem:
    """throttLL'eM (arXiv 2408.05235): the lowest clock at which the projected batch keeps the SLO, under an HPA."""

    period_s: float = _from("[I] the telemetry's period; the paper's runs beside the engine, per iteration", 5.0)
    margin_ratio: float = _from("[I] as optimize.sizing; the paper's error is below one iteration/s", 0.9)
    rate_window_s: float = _from("[I] arrivals and lengths over this long", 60.0)
    horizon_s: float = _from("[I] telemetry delay and one period: what arrives before the next choice bites", 10.0)


@dataclass(frozen=True, slots=True)
class Voltana:
    """VoltanaLLM (arXiv 2509.04827 and its SGLang code): two clocks, and guards that go to the higher one."""

    period_s: float = _from("[I] the telemetry's period; the code's loop runs beside the engine", 5.0)
    low_ratio: float = _from(
        "[P] 1005 of 1410 MHz on A100, facts/dynamollm.md section 5; as a share elsewhere", 1005 / 1410
    )
    load_ratio: float = _from("[I] its rate threshold is the user's; here a share of the rate at the low clock", 0.8)
    rate_window_s: float = _from("[I] arrivals and lengths over this long", 60.0)


def source_of(owner: type, name: str) -> str:
    """Return where a default comes from.

    Raises:
        KeyError: The class has no such default.
    """
    found = owner.__dataclass_fields__[name].metadata["source"]  # type: ignore[attr-defined]  # dataclasses only
    return str(found)
