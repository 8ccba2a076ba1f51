"""`capstan fit`: how many more servers fit under a budget, and how often they would be capped, before arming."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from capstan import units
from capstan.api import convert_power, errors, manifests, row, v1alpha1
from capstan.app import progress, replay_kinds
from capstan.model.profile import ClockResponse, Profile
from capstan.powercap.domains import Timers
from capstan.replay import believed, load, traces
from capstan.replay.pages import report as pages
from capstan.replay.plan import clocked, page, planned, plausible, report, tape
from capstan.replay.plan.held import Declared
from capstan.replay.row import systems

BAD_INPUT, MISSED = 2, 3
MOST_RATIO = (
    1.5  # without --to: half as many servers again, past what anybody has held (facts/polca.md 2.3: 25 to 33 %)
)
MOST_SERVERS = 400  # as `Row`: a domain of more is several
PATHS = {
    "in-band": (systems.IN_BAND, Timers()),
    "out-of-band": (systems.OUT_OF_BAND, systems.PAPER_TIMERS),
}
"""Latencies, and the timers that run with them."""

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Given:
    """The flags."""

    domain: Path
    trace: Path
    servers: int
    to: int | None
    profile: str | None
    profiles: Path | None
    low_share: int
    gpus: int
    path: str
    clock_response: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    correlated: bool


@click.command()
@click.option("--domain", type=_FILE, required=True, help="YAML that holds the PowerDomain.")
@click.option("--trace", type=_FILE, required=True, help="CSV of the domain's own AC power, uncapped: time_s,watts.")
@click.option("--servers", type=click.IntRange(1, MOST_SERVERS), required=True, help="Servers that drew the trace.")
@click.option(
    "--to", type=click.IntRange(1, MOST_SERVERS), help="The most that are tried; default: half as many again."
)
@click.option("--out", type=_FOLDER, help="Folder of fit.json and fit.html.")
@click.option("--profile", help="ServingProfile of the LLM; default: the one that the domain's file holds or names.")
@click.option("--profiles", type=_FOLDER, help="Folder of ServingProfiles.")
@click.option("--low-share", type=click.IntRange(0, 100), default=50, show_default=True, help="Low priority, %.")
@click.option("--gpus", type=click.IntRange(1, 16), default=8, show_default=True, help="GPUs of a server.")
@click.option("--path", type=click.Choice(list(PATHS)), default="in-band", show_default=True, help="How caps are told.")
@click.option("--clock-response", type=click.Choice([r.value for r in ClockResponse]), help="Assumed; default: all.")
@click.option("--prompt-tokens", type=click.IntRange(1), help="Of a request; default: POLCA's three services.")
@click.option("--output-tokens", type=click.IntRange(1), help="The same.")
@click.option("--correlated", is_flag=True, help="Leave out servers that know nothing of each other.")
@click.option("--assert", "strict", is_flag=True, help="Exit with 3 unless the present servers hold.")
def command(*, out: Path | None, strict: bool, **flags: object) -> None:
    """Say how many more servers fit under a power budget, from the domain's own power trace.

    Exit codes: 0 done, 2 bad input, 3 not even the present servers hold (--assert).
    """
    try:
        if out is not None:
            _writable(out)
        asked = _asked(Given(**flags))  # type: ignore[arg-type]  # click made them of these types
        with progress.bar("planning") as told:
            found = planned.found(asked, told)
    except (errors.Invalid, traces.TraceError, ValueError) as problem:
        click.echo(f"capstan fit: {problem}", err=True)
        sys.exit(BAD_INPUT)
    replay_kinds.tell((report.cases(found), report.counts(found)), report.sentence(found))
    if out is not None:
        click.echo(f"report: {report.write(found, page.of(found), out)}")
    if strict and found.recommended is None:
        sys.exit(MISSED)


def _asked(given: Given) -> planned.Asked:
    """Read everything that was named.

    Raises:
        Invalid, TraceError: The file, the field and the fix.
    """
    most = round(given.servers * MOST_RATIO) if given.to is None else given.to
    if not given.servers <= most <= MOST_SERVERS:
        raise errors.Invalid("--to", f"{most} servers; give at least --servers, and {MOST_SERVERS} at most")
    documents = manifests.load(given.domain)
    declared = _declared(given.domain, documents)
    server = planned.Server(_profile(given, documents), given.gpus, *_services(given))
    with progress.bar("reading the trace") as told:
        found = tape.read(given.trace, told)
    plausible.refuse(given.trace, found, declared.domain, server, given.servers)
    path, timers = PATHS[given.path]
    responses = tuple(ClockResponse) if given.clock_response is None else (ClockResponse(given.clock_response),)
    return planned.Asked(
        declared=declared,
        tape=found,
        server=server,
        servers=given.servers,
        most=most,
        low_ratio=units.ratio_of_percent(given.low_share),
        path=path,
        timers=timers,
        responses=responses,
        correlated_only=given.correlated,
    )


def _declared(path: Path, documents: list[manifests.Document]) -> Declared:
    found = [document for document in documents if isinstance(document, v1alpha1.PowerDomain)]
    if len(found) != 1:
        raise errors.Invalid(f"{path}", f"needs one PowerDomain, has {len(found)}; keep the one that is planned for")
    spec = found[0].spec
    return Declared(
        convert_power.power_domain(found[0].manifest(), ()), spec.thresholds is not None, spec.caps is not None
    )


def _profile(given: Given, documents: list[manifests.Document]) -> Profile:
    """Return the profile that was named, or the only one that the domain's file holds or names."""
    known = believed.shipped(given.profiles or load.SHIPPED / "profiles", documents)
    named = {document.profile for document in documents if isinstance(document, row.Row)}
    name = given.profile or next(iter(named | {profile.name for profile in believed.among(documents)}), None)
    listed = ", ".join(dict.fromkeys(profile.name for profile in known))
    if name is None:
        raise errors.Invalid("--profile", f"is needed: {given.domain} holds no ServingProfile; give one of {listed}")
    found = next((profile for profile in known if profile.name == name), None)
    if found is None:
        raise errors.Invalid("--profile", f"{name} is not known; give one of {listed}")
    return found


def _services(given: Given) -> tuple[tuple[clocked.Request, ...], tuple[clocked.Request, ...]]:
    """Return the services of low and high priority: POLCA's, or one of the lengths that were given."""
    if (given.prompt_tokens is None) != (given.output_tokens is None):
        raise errors.Invalid("--prompt-tokens, --output-tokens", "give both or none")
    if given.prompt_tokens is None or given.output_tokens is None:
        return clocked.services(units.ratio_of_percent(given.low_share))
    one = (clocked.Request(float(given.prompt_tokens), float(given.output_tokens)),)
    return one, one


def _writable(out: Path) -> None:
    """Refuse a folder that cannot be written before anything is planned."""
    try:
        pages.prepare(out)
    except OSError as problem:
        raise errors.Invalid(f"--out {out}", f"{problem.strerror}; give a folder that can be written") from problem
