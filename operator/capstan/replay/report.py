"""What a comparison leaves for people and programs: `report.html`, one page without a network, and `report.json`.

Who calls it: `app.replay` and the demo. Must not know: where a run came from beyond what `Run` says.

`report.json` (schema_version 1): every number has its unit in its name; a figure that does not exist is null, never 0.

    schema_version, verdict {passed, sentence, saving}
    runs[]: system, source, trace, duration_s, slo_met, budget_held, energy_j, energy_unassigned_j,
        policies[]: policy, profile, ttft_limit_s, tpot_limit_s, percentile_ratio, arrived_requests,
            completed_requests, good_requests, attainment_ratio, slo_met, ttft_p50_s, ttft_p99_s, tpot_p50_s,
            tpot_p99_s, energy_j, j_per_output_token, output_tokens, mean_replicas
        domains[]: domain, peak_w, budget_w (the lowest in force), longest_over_s, above_j, unknown_s,
            held
        marks[]: t_s, text;  settings {name: value};  figures {name_with_unit: number}

Both files are written beside their final name and renamed, so a reader finds a whole report or none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import jinja2

from capstan.replay import plots, summary
from capstan.replay.budget import DomainScore
from capstan.replay.record import Run
from capstan.replay.score import PolicyScore, Score

SCHEMA_VERSION = 1
HTML_NAME, JSON_NAME = "report.html", "report.json"


def write(runs: Sequence[Run], scores: Sequence[Score], out_dir: Path) -> Path:
    """Write the report of `runs` (the first is the one on trial) and return the page's path.

    Raises:
        ValueError: No run, or not one score per run.
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    columns = summary.columns(runs, scores)
    out_dir.mkdir(parents=True, exist_ok=True)
    _replace(out_dir / JSON_NAME, json.dumps(document(columns), indent=2, allow_nan=False) + "\n")
    _replace(out_dir / HTML_NAME, page(columns))
    return out_dir / HTML_NAME


def document(columns: Sequence[summary.Column]) -> dict[str, object]:
    """Return what `report.json` holds (the schema is in the module's docstring)."""
    first = columns[0]
    verdict = {
        "passed": first.score.passed,
        "sentence": summary.verdict(first),
        "saving": summary.saving(columns) or None,
    }
    return {"schema_version": SCHEMA_VERSION, "verdict": verdict, "runs": [_run(column) for column in columns]}


def page(columns: Sequence[summary.Column]) -> str:
    """Return the HTML page."""
    first = columns[0]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("capstan.replay"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        headline=f"{first.run.system} {'held' if first.score.passed else 'failed'}",
        passed=first.score.passed,
        sentence=summary.verdict(first),
        saving=summary.saving(columns),
        run=first.run,
        columns=[column.run for column in columns],
        rows=summary.rows(columns),
        notes=_notes(columns),
        plots=plots.of([column.run for column in columns]),
        profiles=sorted({f"{s.policy} runs on profile {s.profile}" for s in first.run.services}),
        figures=[(name, f"{value:,.4g}") for name, value in sorted(first.run.figures.items())],
    )


def _notes(columns: Sequence[summary.Column]) -> list[str]:
    """Return the lines under the table: what the other columns are."""
    notes = [f"{summary.BASELINE}: {summary.BASELINE_WORDS}." for c in columns if c.run.system == summary.BASELINE]
    if len({column.run.source for column in columns}) > 1:
        notes.append("The columns come from different worlds: the rig runs in real time, the baseline in virtual time.")
    return notes


def _run(column: summary.Column) -> dict[str, object]:
    run, score = column.run, column.score
    return {
        "system": run.system,
        "source": run.source,
        "trace": run.trace,
        "duration_s": run.duration_s,
        "slo_met": score.slo_met,
        "budget_held": score.budget_held,
        "energy_j": sum(s.energy_j for s in run.services),
        "energy_unassigned_j": run.energy_unassigned_j,
        "policies": [_policy(run, p) for p in score.policies],
        "domains": [_domain(d) for d in score.domains],
        "marks": [{"t_s": mark.t_s, "text": mark.text} for mark in run.marks],
        "settings": dict(run.settings),
        "figures": {name: value if math.isfinite(value) else None for name, value in sorted(run.figures.items())},
    }


def _policy(run: Run, score: PolicyScore) -> dict[str, object]:
    service = next(s for s in run.services if s.policy == score.policy)
    return {
        "policy": score.policy,
        "profile": service.profile,
        "ttft_limit_s": score.slo.ttft_s,
        "tpot_limit_s": score.slo.tpot_s,
        "percentile_ratio": score.slo.percentile_ratio,
        "arrived_requests": score.arrived,
        "completed_requests": score.completed,
        "good_requests": score.good,
        "attainment_ratio": score.attainment_ratio,
        "slo_met": score.slo_met,
        "ttft_p50_s": score.ttft_p50_s,
        "ttft_p99_s": score.ttft_p99_s,
        "tpot_p50_s": score.tpot_p50_s,
        "tpot_p99_s": score.tpot_p99_s,
        "energy_j": score.energy_j,
        "j_per_output_token": score.j_per_output_token,
        "output_tokens": score.output_tokens,
        "mean_replicas": summary.mean_replicas(run, score.policy),
    }


def _domain(score: DomainScore) -> dict[str, object]:
    return {
        "domain": score.domain,
        "peak_w": score.peak_w,
        "budget_w": score.budget_w,
        "longest_over_s": score.longest_over_s,
        "above_j": score.above_j,
        "unknown_s": score.unknown_s,
        "held": score.held,
    }


def _replace(path: Path, text: str) -> None:
    """Write `text` under `path` whole or not at all; the temporary file never outlives a failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
