"""`report.json`: every figure of a comparison under a stable name with its unit; a figure that does not exist is null.

Who calls it: `pages.report`. Must not know: files, HTML. The schema is docs/reference/report-json.md; a name that
changes there is a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from capstan.replay.pages import shocks, summary
from capstan.replay.pages.numbers import finite
from capstan.replay.runs import Run, ServiceRun
from capstan.replay.scores import compare, misplaced, routes
from capstan.replay.scores.bill import Bill
from capstan.replay.scores.budget import DomainScore
from capstan.replay.scores.compare import Column, Comparison, Conditions, Estimate, Relative
from capstan.replay.scores.misplaced import Placed
from capstan.replay.scores.recovery import Recovery
from capstan.replay.scores.routes import ClassEnergy
from capstan.replay.scores.score import Figures, PolicyScore, Quantiles
from capstan.replay.scores.slowdown import Slowdown

SCHEMA_VERSION = 4

Json = dict[str, object]


def of(comparison: Comparison) -> Json:
    """Return what `report.json` holds."""
    first = comparison.first
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "trace": first.run.trace,
        "scenario": comparison.conditions.scenario,
        **_conditions(comparison.conditions),
        "verdict": {
            "system": first.run.system,
            "passed": first.score.passed,
            "sentence": summary.verdict(first),
            "saving": summary.saving(comparison) or None,
        },
        "settings": dict(comparison.conditions.settings),
        "systems": {
            column.run.system: _system(comparison, column, relative)
            for column, relative in zip(comparison.columns, comparison.relatives, strict=True)
        },
    }


def _conditions(conditions: Conditions) -> Json:
    return {
        "rate_multiple": finite(conditions.rate_multiple),
        "provisioning": conditions.provisioning,
        "clock_response": conditions.clock_response,
        "slo": str(conditions.slo),
    }


def _system(comparison: Comparison, column: Column, relative: Relative) -> Json:
    run, score = column.run, column.score
    return {
        "source": run.source,
        **_conditions(comparison.conditions),
        "duration_s": finite(run.duration_s),
        **_figures(score.overall),
        "slo_met": score.slo_met,
        "budget_held": score.budget_held,
        **_energy(column),
        **_relative(relative),
        **_bill(score.bill),
        "services": [_service(run, policy) for policy in score.policies],
        "domains": [domain(each) for each in score.domains],
        "marks": [{"t_s": mark.t_s, "text": mark.text} for mark in run.marks],
        "settings": dict(run.settings),
        "figures": {name: finite(value) for name, value in sorted(run.figures.items())},
    }


def _figures(figures: Figures) -> Json:
    return {
        "requests": figures.arrived,
        "completed": figures.completed,
        "good": figures.good,
        "slo_attainment_ratio": finite(figures.attainment_ratio),
        "slo_by_class": _pairs(figures.by_class),
        "slo_windows_ratio": finite(figures.windows_ratio),
        "class_mix": _pairs(figures.class_mix),
        "ttft_s": _quantiles(figures.ttft_s),
        "tpot_s": _quantiles(figures.tpot_s),
        "tbt_s": _quantiles(figures.tbt_s),
        "fluidity_low_ratio": finite(figures.fluidity_low_ratio),
        "fluidity_high_ratio": finite(figures.fluidity_high_ratio),
        "output_tokens": figures.output_tokens,
    }


def _energy(column: Column) -> Json:
    """Return joules, watts and changes of a whole run; the bound has neither a fleet nor changes."""
    score = column.score
    is_run = column.run.system != compare.BOUND
    return {
        "energy_j": finite(score.energy_j),
        "energy_serving_j": finite(score.energy.serving_j),
        "energy_idle_j": finite(score.energy.idle_j),
        "energy_transition_j": finite(score.energy.transition_j),
        "energy_unassigned_j": finite(score.energy_unassigned_j) if is_run else None,
        "energy_node_j": finite(score.energy_node_j),
        "j_per_output_token": finite(score.j_per_output_token),
        "gpu_seconds": finite(score.gpu_seconds),
        "peak_power_w": finite(score.peak_power_w),
        "reconfigurations": score.reconfigurations,
        "clock_changes": score.clock_changes,
    }


def _bill(bill: Bill) -> Json:
    return {
        "cost": finite(bill.cost),
        "cost_rent": finite(bill.rent),
        "cost_electricity": finite(bill.electricity),
        "carbon_g": finite(bill.carbon_g),
        "carbon_operational_g": finite(bill.operational_g),
        "carbon_embodied_g": finite(bill.embodied_g),
    }


def _relative(relative: Relative) -> Json:
    """Return the figures between systems; each ratio with an object beside it where there are several seeds."""
    estimates = {
        "saving_ratio": relative.saving,
        "saving_fleet_ratio": relative.saving_fleet,
        "saving_over_best_static_ratio": relative.saving_over_best_static,
        "saving_over_best_static_fleet_ratio": relative.saving_over_best_static_fleet,
        "captured_ratio": relative.captured,
        "captured_of_bound_ratio": relative.captured_of_bound,
        "saving_cost_ratio": relative.saving_cost,
        "saving_carbon_ratio": relative.saving_carbon,
    }
    return {
        **{name: None if estimate is None else finite(estimate.mean) for name, estimate in estimates.items()},
        "intervals": {name: _interval(estimate) for name, estimate in estimates.items()},
        "note": relative.note or None,
    }


def _interval(estimate: Estimate | None) -> Json | None:
    if estimate is None or estimate.half_width is None:
        return None
    low, high = estimate.mean - estimate.half_width, estimate.mean + estimate.half_width
    return {"low": finite(low), "high": finite(high), "seeds": estimate.seeds}


def _service(run: Run, score: PolicyScore) -> Json:
    told = next((service for service in run.services if service.policy == score.policy), None)
    return {
        "policy": score.policy,
        "profiles": [] if told is None else list(told.profiles),
        "ttft_limit_s": list(dict.fromkeys(score.limits.ttft_s)),
        "tpot_limit_s": score.limits.tpot_s,
        "percentile_ratio": score.limits.percentile_ratio,
        **_figures(score.figures),
        "slo_met": score.slo_met,
        "energy_j": finite(score.energy_j),
        "energy_serving_j": finite(score.energy.serving_j),
        "energy_idle_j": finite(score.energy.idle_j),
        "energy_transition_j": finite(score.energy.transition_j),
        "j_per_output_token": finite(score.j_per_output_token),
        "replicas_mean": finite(summary.mean_replicas(run, score.policy)),
        "recoveries": [_recovery(found) for found in shocks.of(run, score)],
        "guesses": None if told is None else _guesses(told, score),
        "request_energy_by_class": {} if told is None else {one.name: _class_energy(one) for one in routes.of(told)},
    }


def _guesses(told: ServiceRun, score: PolicyScore) -> Json | None:
    if told.routed is None:
        return None
    found = misplaced.of(told.outcomes, told.routed, score.limits)
    return {
        "accuracy_ratio": finite(found.accuracy_ratio),
        "confusion": [list(row) for row in found.confusion],
        **{name: _placed(getattr(found, name)) for name in ("right", "shorter", "longer")},
    }


def _recovery(found: Recovery) -> Json:
    return {
        "t_s": found.t_s,
        "recovered_after_s": finite(found.recovered_after_s),
        "debt_requests": finite(found.debt_requests),
        "late_s": finite(found.late_s),
    }


def _placed(found: Placed) -> Json:
    return {
        "requests": found.requests,
        "good": found.good,
        "attainment_ratio": finite(found.attainment_ratio),
        "like_ratio": finite(found.like_ratio),
        "lost_requests": finite(found.lost_requests),
    }


def _class_energy(found: ClassEnergy) -> Json:
    return {
        "requests": found.requests,
        "request_j": finite(found.request_j),
        "odd_ratio": finite(found.odd_ratio),
        "odd_s": finite(found.odd_s),
    }


def domain(score: DomainScore) -> Json:
    """Return what is written of one power domain."""
    return {
        "domain": score.domain,
        "peak_w": finite(score.peak_w),
        "budget_w": finite(score.budget_w),
        "longest_excursion_s": finite(score.longest_excursion_s),
        "overbudget_j": finite(score.overbudget_j),
        "unknown_s": finite(score.unknown_s),
        "held": score.held,
        "servers": score.servers,
        "state_ratio": _pairs(score.state_ratio),
        "brakes": score.brakes,
        "slowdown_p50_ratio": _slowdown(score, lambda found: found.p50_ratio),
        "slowdown_p99_ratio": _slowdown(score, lambda found: found.p99_ratio),
    }


def _slowdown(score: DomainScore, of_one: Callable[[Slowdown], float | None]) -> Json | None:
    if score.slowdown is None:
        return None
    return {str(priority): finite(of_one(found)) for priority, found in score.slowdown}


def _quantiles(quantiles: Quantiles) -> Json:
    return {"p50": finite(quantiles.p50), "p90": finite(quantiles.p90), "p99": finite(quantiles.p99)}


def _pairs(pairs: Iterable[tuple[str, float]]) -> Json:
    return {name: finite(value) for name, value in pairs}
