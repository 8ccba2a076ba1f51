"""What a study is asked and what it found, in one record, and the files it leaves: `study.html`, `.json`, `.csv`.

Who calls it: `app.study`. Must not know: the command line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capstan.model.profile import Profile
from capstan.replay.pages import report as pages
from capstan.replay.study import surface, survey
from capstan.replay.study.finding import Finding
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.survey import TPOT, TTFT, Choice, Study, View

HTML_NAME, JSON_NAME, CSV_NAME = "study.html", "study.json", "study.csv"
SCHEMA_VERSION = 1

COLUMNS = (
    "clock_response", "class", "profile", "tp", "clock_mhz", "batch", "arrival_rps", "output_tokens_per_s", "ttft_s",
    "tpot_s", "kv_usage", "gpu_w", "replica_w", "j_per_output_token", "stress_ratio", "keeps_slo", "efficient",
)  # fmt: skip

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a study stands on, for people: `lengths` says whose and where the classes begin, `slo` the limits."""

    family: str
    lengths: str
    slo: str
    percentile_ratio: float


@dataclass(frozen=True, slots=True)
class Report:
    """A study, judged."""

    asked: Asked
    study: Study
    findings: tuple[Finding, ...]

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles, by ascending tp."""
        view = self.study.nominal
        return tuple(sheet.profile for sheet in view.of(view.kinds[0]))


def write(found: Report, html: str, out_dir: Path) -> Path:
    """Write the three files and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    pages.replace(out_dir / JSON_NAME, json.dumps(document(found), indent=2, allow_nan=False) + "\n")
    pages.replace(out_dir / CSV_NAME, table(found.study))
    pages.replace(out_dir / HTML_NAME, html)
    return out_dir / HTML_NAME


def document(found: Report) -> Json:
    """Return what `study.json` holds; a choice that does not exist is null."""
    study, asked = found.study, found.asked
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "family": asked.family,
        "profiles": [{"name": p.name, "tp": p.tp, "fit_error_ratio": p.fit_error_ratio} for p in found.profiles],
        "clock_response_assumed": any(p.clocks.assumed for p in found.profiles),
        "lengths": asked.lengths,
        "slo": asked.slo,
        "percentile_ratio": asked.percentile_ratio,
        "margin_ratio": study.nominal.margin,
        "classes": [_class(study, kind) for kind in study.nominal.kinds],
        "findings": [_finding(one) for one in found.findings],
    }


def table(study: Study) -> str:
    """Return what `study.csv` holds: a row per cell; `efficient` within its class and clock response."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for view in study.views:
        for kind in view.kinds:
            choices = view.choices(kind)
            for choice, best in zip(choices, survey.efficient(choices), strict=True):
                writer.writerow(_row(view, choice, efficient=best))
    return text.getvalue()


def _row(view: View, choice: Choice, *, efficient: bool) -> Iterator[str]:
    cell, kind, profile = choice.cell, choice.sheet.kind, choice.sheet.profile
    yield from (view.response.value, kind.name, profile.name, str(profile.tp))
    figures = (
        cell.clock_mhz, cell.batch, cell.arrival_rps, cell.arrival_rps * kind.load.output_tokens, cell.ttft_s,
        cell.tpot_s, cell.kv_usage, cell.gpu_w, cell.gpu_w * profile.tp, cell.j_per_output_token, cell.stress_ratio,
    )  # fmt: skip
    yield from (f"{figure:.6g}" for figure in figures)
    yield from (str(flag).lower() for flag in (view.keeps(choice), efficient))


def _class(study: Study, kind: ClassLoad) -> Json:
    """Return a class; the frontiers are those of the nominal view, inside the SLO."""
    view = study.nominal
    kept = tuple(filter(view.keeps, view.choices(kind)))
    return {
        "name": kind.name,
        "share_ratio": kind.share_ratio,
        "prompt_tokens": kind.load.prompt_tokens,
        "output_tokens": kind.load.output_tokens,
        "ttft_limit_s": kind.slo.ttft_s,
        "tpot_limit_s": kind.slo.tpot_s,
        "frontier_ttft": [_choice(one) for one in survey.frontier(kept, TTFT)],
        "frontier_tpot": [_choice(one) for one in survey.frontier(kept, TPOT)],
        "by_clock_response": {view.response.value: _choices(view, kind) for view in study.views},
    }


def _choices(view: View, kind: ClassLoad) -> Json:
    return {
        "best": _choice(view.best(kind)),
        "closest": _choice(view.closest(kind)),
        "at_load": {f"{share:g}": _choice(view.at_load(kind, i)) for i, share in enumerate(surface.LOADS)},
    }


def _choice(choice: Choice | None) -> Json | None:
    if choice is None:
        return None
    cell = choice.cell
    return {
        "tp": choice.tp,
        "clock_mhz": cell.clock_mhz,
        "batch": cell.batch,
        "arrival_rps": cell.arrival_rps,
        "ttft_s": cell.ttft_s,
        "tpot_s": cell.tpot_s,
        "gpu_w": cell.gpu_w,
        "j_per_output_token": cell.j_per_output_token,
        "stress_ratio": cell.stress_ratio,
    }


def _finding(one: Finding) -> Json:
    return {
        "key": one.statement.key,
        "paper": one.statement.paper,
        "status": one.statement.status,
        "verdict": one.verdict.value,
        "by_clock_response": {
            response.value: {"holds": reading.holds, "sentence": reading.sentence, "figures": dict(reading.figures)}
            for response, reading in one.readings
        },
    }
