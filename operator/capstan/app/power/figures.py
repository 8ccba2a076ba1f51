"""The metrics behind `power.cycle.Meter`: verdicts of one tick to the series of facts/polca.md 5.6."""

from __future__ import annotations

import logging

from capstan.adapters.metrics import Metrics
from capstan.model.reasons import Reason
from capstan.power.judge import Verdict
from capstan.powercap.domains import Level, Strategy

PER_TICK = (
    "capstan_domain_power_watts", "capstan_domain_budget_watts", "capstan_domain_utilization_ratio",
    "capstan_domain_headroom_watts", "capstan_domain_oversubscription_ratio", "capstan_domain_state",
    "capstan_domain_advised_state", "capstan_domain_threshold_ratio", "capstan_domain_safe_sum_watts",
    "capstan_domain_armed", "capstan_domain_beyond_brake", "capstan_domain_rise_ratio_max",
    "capstan_domain_telemetry_age_seconds", "capstan_domain_telemetry_coverage_ratio",
    "capstan_domain_telemetry_disagreement_ratio", "capstan_domain_unconfirmed_watts", "capstan_domain_lost_feeds",
    "capstan_domain_release_blocked", "capstan_domain_grant_watts", "capstan_capped_gpus",
)  # fmt: skip

_log = logging.getLogger(__name__)


class Figures:
    """Implements `power.cycle.Meter`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def tick(self, verdicts: tuple[Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Publish one tick of everything that this process leads."""
        self._metrics.clear(*PER_TICK)
        for verdict in verdicts:
            self._watts(verdict)
            self._machine(verdict)
            self._grants(verdict)
            self._telemetry(verdict)
            self._count(verdict)
        self._metrics.set("capstan_agents", float(answering), "answering")
        self._metrics.set("capstan_agents", float(silent), "silent")
        self._metrics.observe("capstan_cycle_seconds", seconds, "power")

    def moved(self, domain: str, before: Level, after: Level, reason: Reason) -> None:
        """Count a transition and say it once."""
        self._metrics.add("capstan_domain_transitions_total", 1, domain, before.value, after.value, reason.value)
        if after is Level.BRAKE:
            self._metrics.add("capstan_domain_brake_events_total", 1, domain)
        _log.info("domain %s: %s -> %s (%s)", domain, before.value, after.value, reason.value)

    def advised(self, domain: str, before: Level, after: Level) -> None:
        """Count what a domain in mode Advise would have done, and say it once."""
        self._metrics.add("capstan_domain_advised_transitions_total", 1, domain, before.value, after.value)
        _log.info("domain %s advises: %s -> %s; in mode Act it would be so", domain, before.value, after.value)

    def drifted(self, caps_lost: int) -> None:
        """Count caps that were in force and no longer are."""
        self._metrics.add("capstan_cap_drift_total", caps_lost)

    def _watts(self, verdict: Verdict) -> None:
        put, name, step, sums = self._metrics.set, verdict.declared.name, verdict.step, verdict.admission
        put("capstan_domain_power_watts", step.measured_w, name, "agents")
        put("capstan_domain_power_watts", step.projected_w, name, "projected")
        put("capstan_domain_power_watts", step.meter_w, name, "meter")
        put("capstan_domain_budget_watts", verdict.budget.budget_w, name)
        put("capstan_domain_utilization_ratio", step.utilisation_ratio, name)
        put("capstan_domain_headroom_watts", step.headroom_w, name)
        if sums is not None:
            put("capstan_domain_oversubscription_ratio", sums.nameplate_w / verdict.budget.budget_w, name)
            put("capstan_domain_safe_sum_watts", sums.safe_sum_w, name, "safe")
            put("capstan_domain_safe_sum_watts", sums.lost_node_w, name, "one node lost")

    def _machine(self, verdict: Verdict) -> None:
        put, name, at = self._metrics.set, verdict.declared.name, verdict.domain.thresholds
        for level in Level:
            put("capstan_domain_state", float(level is verdict.step.level), name, level.value)
            if verdict.advised is not None:
                put("capstan_domain_advised_state", float(level is verdict.advised), name, level.value)
        for word, ratio in (
            ("low", at.low_ratio), ("high", at.high_ratio), ("brake", at.brake_ratio),
            ("hysteresis", at.hysteresis_ratio),
        ):  # fmt: skip
            if verdict.strategy is Strategy.STATISTICAL:
                put("capstan_domain_threshold_ratio", ratio, name, word)
        put("capstan_domain_armed", float(verdict.armed), name)
        put("capstan_domain_beyond_brake", float(verdict.step.beyond_brake), name)
        put("capstan_domain_release_blocked", float(verdict.held), name)
        put("capstan_domain_lost_feeds", float(len(verdict.budget.feeds.lost)), name)
        put("capstan_domain_rise_ratio_max", verdict.worst_rise_ratio, name, "week")
        for priority, count in verdict.capped.items():
            put("capstan_capped_gpus", float(count), name, priority)

    def _grants(self, verdict: Verdict) -> None:
        book, name, binds = verdict.book, verdict.declared.name, verdict.capped.get("grant", 0) > 0
        if book is None:
            return
        undrawn_w = max(book.held_w - (verdict.step.measured_w or 0.0), 0.0)
        for kind, watts in (
            ("granted", book.granted_w), ("held", book.held_w), ("silent", book.silent_w),
            ("stranded", undrawn_w if binds else 0.0),
        ):  # fmt: skip
            self._metrics.set("capstan_domain_grant_watts", watts, name, kind)

    def _telemetry(self, verdict: Verdict) -> None:
        put, name, step = self._metrics.set, verdict.declared.name, verdict.step
        nodes = len(verdict.declared.nodes)
        put("capstan_domain_telemetry_age_seconds", verdict.oldest_s, name)
        if nodes:
            put("capstan_domain_telemetry_coverage_ratio", 1 - len(step.missing) / nodes, name)
        if step.meter_w and step.measured_w:
            apart = abs(step.meter_w - step.measured_w) / max(step.meter_w, step.measured_w)
            put("capstan_domain_telemetry_disagreement_ratio", apart, name)
        put("capstan_domain_unconfirmed_watts", verdict.unconfirmed.settled_w, name)

    def _count(self, verdict: Verdict) -> None:
        add, name, step, passed_s = self._metrics.add, verdict.declared.name, verdict.step, verdict.passed_s
        over_w = max(step.projected_w - verdict.budget.budget_w, 0.0)
        add("capstan_domain_overbudget_seconds_total", passed_s if over_w > 0 else 0.0, name)
        add("capstan_domain_overbudget_joules_total", over_w * passed_s, name)
        for priority, count in verdict.capped.items():
            if count:
                add("capstan_domain_capped_seconds_total", passed_s, name, priority, step.level.value)
        if verdict.confirmed_s is not None:
            self._metrics.observe("capstan_actuation_seconds", verdict.confirmed_s, name)
