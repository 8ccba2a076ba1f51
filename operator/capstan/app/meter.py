"""A cycle's report as metrics of the operator (`adapters.catalogue` lists them).

Who calls it: `app.operator`. What is unknown has no series: absent is absent, never 0.
"""

from __future__ import annotations

from capstan.adapters.metrics import Metrics
from capstan.model import oddity, sample
from capstan.model.fleet import ServiceObserved
from capstan.model.plan import PowerPlan
from capstan.model.policy import Knob
from capstan.model.reasons import Reason
from capstan.serving import status
from capstan.serving.report import Report
from capstan.serving.status import News

GAUGES = (
    "capstan_desired_replicas",
    "capstan_current_replicas",
    "capstan_desired_tensor_parallel",
    "capstan_clock_cap_megahertz",
    "capstan_advised_replicas",
    "capstan_advised_clock_cap_megahertz",
    "capstan_advised_power_watts",
    "capstan_class_arrival_rate",
    "capstan_slo_ratio",
    "capstan_latency_seconds",
    "capstan_arrival_rate",
    "capstan_forecast_arrival_rate",
    "capstan_policy_power_watts",
    "capstan_expected_power_watts",
    "capstan_joules_per_output_token",
    "capstan_shed_ratio",
    "capstan_route_weight",
    "capstan_request_joules",
    "capstan_request_joules_anomaly",
    "capstan_input_age_seconds",
)
GAP_S = 60.0  # energy is a sum of watts × time; over a longer hole nobody knows what was drawn


class Meter:
    """Implements `serving.ports.Meter`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last_s: float | None = None
        self._watched: dict[tuple[str, str], oddity.Watched] = {}

    def cycle(self, report: Report) -> None:
        """Publish one cycle."""
        metrics = self._metrics
        metrics.clear(*GAUGES)
        metrics.observe("capstan_cycle_seconds", report.duration_s, "operator")
        ages = {"cluster": report.cluster_age_s, "engine": report.engine_age_s, "gpu": report.gpu_age_s}
        for source, age_s in ages.items():
            if age_s is not None:
                metrics.set("capstan_input_age_seconds", age_s, source)
        for refusal in report.refusals:
            metrics.add("capstan_actuation_errors_total", 1, refusal.knob, refusal.reason)
        elapsed_s = 0.0 if self._last_s is None else report.now_s - self._last_s
        for news in report.news:
            self._policy(news, elapsed_s if 0 < elapsed_s <= GAP_S else 0.0)
        self._routes(report, elapsed_s if 0 < elapsed_s <= GAP_S else 0.0)
        self._last_s = report.now_s

    def _policy(self, news: News, elapsed_s: float) -> None:
        metrics, decision, seen = self._metrics, news.decision, news.seen
        labels = tuple(news.view.key.split("/", 1))
        self._plan(news, labels)
        self._advice(news, labels)
        self._latencies(news, labels)
        self._decided(news)
        self._limited(decision.power, labels)
        figures = status.observed_effect(seen)
        limits = news.view.policy.slo
        metrics_of = {
            "capstan_arrival_rate": seen.arrival_rps.value if isinstance(seen.arrival_rps, sample.Fresh) else None,
            "capstan_forecast_arrival_rate": decision.forecast_rps,
            "capstan_policy_power_watts": figures.power_w,
            "capstan_expected_power_watts": decision.expected.power_w,
            "capstan_advised_power_watts": decision.advice_expected.power_w,
            "capstan_joules_per_output_token": figures.j_per_output_token,
        }
        for name, value in metrics_of.items():
            if value is not None:
                metrics.set(name, value, *labels)
        if figures.ttft_s is not None:
            metrics.set("capstan_slo_ratio", figures.ttft_s / limits.ttft_s, *labels, "ttft")
        if figures.tpot_s is not None:
            metrics.set("capstan_slo_ratio", figures.tpot_s / limits.tpot_s, *labels, "tpot")
        if figures.power_w is not None:
            metrics.add("capstan_policy_energy_joules_total", figures.power_w * elapsed_s, *labels)

    def _routes(self, report: Report, elapsed_s: float) -> None:
        """Publish joules per request of each pool; forget the pools that are gone."""
        kept: dict[tuple[str, str], oddity.Watched] = {}
        for news in report.news:
            for seen in news.seen.lanes or (news.seen,):
                key = (news.view.key, seen.lane or "all")
                watched = self._watched.get(key, oddity.Watched(report.now_s))
                kept[key] = watched = _noted(watched, seen, report.now_s, elapsed_s)
                labels = (*key[0].split("/", 1), key[1])
                if watched.request_j is not None:
                    self._metrics.set("capstan_request_joules", watched.request_j, *labels)
                if watched.odd_ratio is not None:
                    self._metrics.set("capstan_request_joules_anomaly", watched.odd_ratio, *labels)
        self._watched = kept

    def _plan(self, news: News, labels: tuple[str, ...]) -> None:
        metrics = self._metrics
        for pool in news.view.pools:
            target = pool.workload_key.partition("/")[2]
            metrics.set("capstan_current_replicas", pool.ready, *labels, pool.name, target)
        for planned in news.decision.pools:
            found = news.view.pool(planned.pool, planned.tp)
            target = "" if found is None else found.workload_key.partition("/")[2]
            metrics.set("capstan_desired_replicas", planned.replicas, *labels, planned.pool, target)
            metrics.set("capstan_desired_tensor_parallel", planned.tp, *labels, planned.pool, target)
            if planned.clock_cap_mhz is not None:
                metrics.set("capstan_clock_cap_megahertz", planned.clock_cap_mhz, *labels, planned.pool)

    def _advice(self, news: News, labels: tuple[str, ...]) -> None:
        metrics, edges = self._metrics, news.view.policy.pools.edges
        for advised in news.decision.advice:
            metrics.set("capstan_advised_replicas", advised.replicas, *labels, advised.pool, str(advised.tp))
            if advised.clock_cap_mhz is not None:
                metrics.set("capstan_advised_clock_cap_megahertz", advised.clock_cap_mhz, *labels, advised.pool)
        for demand in news.seen.classes:
            metrics.set("capstan_class_arrival_rate", demand.arrival_rps, *labels, edges.name(demand.code))

    def _latencies(self, news: News, labels: tuple[str, ...]) -> None:
        """Publish what capped pods and the others of a policy take, by its priority."""
        for told in news.latencies:
            of = (*labels, news.view.policy.priority.value.lower(), str(told.capped).lower())
            for slo, found_s in (("ttft", told.ttft_s), ("tpot", told.tpot_s)):
                if found_s is not None:
                    self._metrics.set("capstan_latency_seconds", found_s, *of, slo)

    def _limited(self, power: PowerPlan, labels: tuple[str, ...]) -> None:
        """Publish what is to be done while GPUs are capped."""
        self._metrics.set("capstan_shed_ratio", power.shed_ratio, *labels)
        for share in power.shares:
            self._metrics.set("capstan_route_weight", share.weight_ratio, *labels, share.domain, str(share.tp))

    def _decided(self, news: News) -> None:
        """Count the reasons; a knob that only advises holds by that word where its plan differs from what is."""
        metrics, decision = self._metrics, news.decision
        metrics.add("capstan_decisions_total", 1, "replicas", decision.replicas_reason.value)
        metrics.add("capstan_decisions_total", 1, "clock", decision.clock_reason.value)
        metrics.add("capstan_decisions_total", 1, "tensorParallel", decision.tp_reason.value)
        if decision.advice_reason is not None:
            metrics.add("capstan_decisions_total", 1, "advice", decision.advice_reason.value)
        if not news.scaled:
            advises = news.view.policy.knobs.replicas is Knob.ADVISE and _differs(news)
            held = Reason.ADVISE_ONLY if advises else decision.replicas_reason
            metrics.add("capstan_held_decisions_total", 1, held.value)


def _noted(watched: oddity.Watched, seen: ServiceObserved, now_s: float, elapsed_s: float) -> oddity.Watched:
    """Return what is known of a route one cycle later; where watts or tokens are not fresh, that time is left out."""
    match seen.power_w, seen.output_tokens_per_s, seen.output_tokens:
        case sample.Fresh(value=power_w), sample.Fresh(value=tokens_per_s), sample.Fresh(value=tokens) if tokens > 0:
            requests = tokens_per_s / tokens * elapsed_s
            return watched.noted(now_s, energy_j=power_w * elapsed_s, sample_requests=requests)
    return watched.noted(now_s)


def _differs(news: News) -> bool:
    pools = ((p, news.view.pool(p.pool, p.tp)) for p in news.decision.pools)
    return any(
        pool is not None and pool.workload is not None and pool.workload.replicas != p.replicas for p, pool in pools
    )
