"""`capstan study`: what each knob does to energy and latency, and whether the papers' statements hold in our model."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from capstan.api import errors, manifests
from capstan.api.scenario import SloSet
from capstan.app import progress
from capstan.model.classes import Edges
from capstan.model.profile import ClockResponse, Profile
from capstan.model.slo import Slo
from capstan.optimize.case import Settings
from capstan.replay import believed, classify, load, published, queueing
from capstan.replay.options import Options
from capstan.replay.pages import report as pages
from capstan.replay.runs import Requests
from capstan.replay.scores import limits
from capstan.replay.study import findings, loads, page, report, survey, tables
from capstan.replay.study.report import Asked, Report

BAD_INPUT = 2
DEFAULT_FAMILY = "llama-3.1-70b-h100-sxm5-80gb"
BAND = "all"
SLO_FIELDS = ("ttft", "tpot", "percentile")

_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Flags:
    """What was asked for, as it was written."""

    profile: str
    profiles: Path
    slo: str
    clock_response: str
    classes: str
    lengths: str
    margin: float


@click.command()
@click.option("--profile", default=DEFAULT_FAMILY, show_default=True, help="A file, a shipped profile, or all its tps.")
@click.option(
    "--profiles", type=_FOLDER, default=load.SHIPPED / "profiles", show_default="the shipped ones", help="Folder."
)
@click.option(
    "--slo", default="class", show_default=True, help="class, chat, or ttft=2000,tpot=100,percentile=99 (ms)."
)
@click.option(
    "--clock-response", type=click.Choice([*(r.value for r in ClockResponse), BAND]), default=BAND, show_default=True,
    help="Of the core voltage, where nobody measured it.",
)  # fmt: skip
@click.option("--classes", default="fixed", show_default=True, help="Edges: fixed, terciles, or 256,1024/100,350.")
@click.option(
    "--lengths", type=click.Choice(sorted(published.BY_NAME)), default=published.CONVERSATION.name, show_default=True,
    help="Published statistics that the classes' mean lengths come from.",
)  # fmt: skip
@click.option(
    "--margin", type=float, default=Settings().slo_margin_ratio, show_default=True,
    help="Share of each limit that may be used.",
)  # fmt: skip
@click.option("--out", type=_FOLDER, help="Folder of study.html, study.json and study.csv.")
@click.option("--markdown", is_flag=True, help="Print the findings alone, as the table of docs/explanation/knobs.md.")
def command(*, out: Path | None, markdown: bool, **asked: object) -> None:
    """Print energy and latency over clock, tp, batch and class, and judge what the papers say of them.

    Exit codes: 0 done, 2 bad input.
    """
    try:
        if out is not None:
            _writable(out)
        found = studied(Flags(**asked))  # type: ignore[arg-type]  # click checked the types; the names are the record's
    except errors.Invalid as problem:
        click.echo(f"capstan study: {problem}", err=True)
        sys.exit(BAD_INPUT)
    if markdown:
        click.echo(tables.markdown(found), nl=False)
    else:
        tables.print_report(found, Console())
        click.echo(page.counted(found.findings))
    if out is not None:
        click.echo(f"report: {report.write(found, page.of(found), out)}", err=markdown)


def studied(flags: Flags) -> Report:
    """Return the study that was asked for.

    Raises:
        Invalid: The flag and the fix.
    """
    if not 0 < flags.margin <= 1:  # so NaN is refused, too
        raise errors.Invalid("--margin", f"{flags.margin:g} is no share; write a number above 0, at most 1")
    profiles = family(flags.profile, flags.profiles)
    edges = _edges(flags)
    slo, said = limits_of(flags.slo)
    statistics = published.BY_NAME[flags.lengths]
    responses = tuple(ClockResponse) if flags.clock_response == BAND else (ClockResponse(flags.clock_response),)
    with progress.bar("studying") as told:
        study = survey.survey(
            profiles, loads.of(statistics, edges, slo), responses=responses, margin=flags.margin, told=told
        )
    asked = Asked(
        family=f"{profiles[0].models[0]} on {profiles[0].gpu_products[0]}",
        lengths=f"published lengths of {flags.lengths}; {classify.words(edges)}",
        slo=said,
        percentile_ratio=slo.percentile_ratio,
    )
    return Report(asked, study, findings.of(study))


def family(name: str, folder: Path) -> tuple[Profile, ...]:
    """Return the profiles of one LLM on one GPU by ascending tp: those of a file, one by name, or all of its tps.

    Raises:
        Invalid: There is no such profile, or what there is does not belong together.
    """
    path = Path(name)
    if path.is_file():
        found = believed.among(manifests.load(path))
        if not found:
            raise errors.Invalid("--profile", f"{path} holds no ServingProfile; give a file with one")
    else:
        known = believed.shipped(folder, ())
        found = tuple(p for p in known if p.name == name or _family_of(p) == name)
        if not found:
            there = ", ".join(dict.fromkeys(map(_family_of, known))) or "none"
            raise errors.Invalid(
                "--profile", f"{name} is neither a file nor one of these (add -tpN for one tp): {there}"
            )
    if len({(p.models, p.gpu_products) for p in found}) > 1 or len({p.tp for p in found}) < len(found):
        raise errors.Invalid("--profile", f"{name} holds several LLMs, GPUs, or a tp twice; give one LLM on one GPU")
    return tuple(sorted(found, key=lambda one: one.tp))


def limits_of(text: str) -> tuple[Slo, str]:
    """Return the limits that `--slo` asks for, and the same for people.

    Raises:
        Invalid: It is neither a set nor limits in milliseconds.
    """
    if text in {SloSet.CLASS.value, SloSet.CHAT.value}:
        held = limits.of(SloSet(text), limits.CHAT)
        return limits.aim(SloSet(text), limits.CHAT), f"{text}: {held.words}, p{100 * held.percentile_ratio:g}"
    told = dict(part.partition("=")[::2] for part in re.split(r"\s*,\s*", text.strip()))
    fix = f"{text} is neither class, chat nor limits; write ttft=2000,tpot=100,percentile=99 (milliseconds, percent)"
    if not {"ttft", "tpot"} <= set(told) <= set(SLO_FIELDS):
        raise errors.Invalid("--slo", fix)
    try:
        ttft_ms, tpot_ms, percentile = float(told["ttft"]), float(told["tpot"]), float(told.get("percentile", "99"))
        slo = Slo(ttft_ms / 1e3, tpot_ms / 1e3, percentile / 100)
    except ValueError as problem:
        raise errors.Invalid("--slo", f"{fix}; {problem}") from problem
    if math.inf in (ttft_ms, tpot_ms):
        raise errors.Invalid("--slo", fix)
    return slo, f"{ttft_ms:,g} ms, {tpot_ms:,g} ms, p{percentile:g}"


def _family_of(profile: Profile) -> str:
    return profile.name.removesuffix(f"-tp{profile.tp}")


def _edges(flags: Flags) -> Edges:
    prompts, outputs = queueing.drawn(published.BY_NAME[flags.lengths])
    drawn = Requests(np.arange(len(prompts), dtype=np.float64), prompts, outputs)
    return classify.edges(Options(classes=flags.classes).edges, Edges(), drawn)


def _writable(out: Path) -> None:
    """Refuse a folder that cannot be written before anything is computed."""
    try:
        pages.prepare(out)
    except OSError as problem:
        raise errors.Invalid(f"--out {out}", f"{problem.strerror}; give a folder that can be written") from problem
