"""`python -m rig bench`: the last demo's figures, how fast replay is, how soon a spec change is acted on, here.

Figures are printed, never judged: nothing fails on a time. The last part starts a control plane and an operator of
its own; it raises `minReplicas` one step at a time, then sends a burst to each of a few policies (`demo.probe` says
from where to where the delays run).
"""

from __future__ import annotations

import datetime
import functools
import json
import statistics
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import yaml

from capstan.api import errors
from capstan.replay import traces
from capstan.replay.nodes import Node
from rig import binaries, objects, process, speed
from rig.crosscheck import dynamo, load, venvs
from rig.demo import figures, manifests, probe, stage
from rig.demo.stage import ROOT

CHANGES = 20
CHANGES_FULL = 40
STEPS, STEPS_FULL = 6, 12
STEP_WAIT_S = 6.0  # longer than an instance period of 1 s by far: a step that takes this long is reported as missing
REST_S = 0.2
PERIODS = "30,30,1"
RATE_WINDOW_S = 8.0  # four scrapes of the rig's Prometheus
CHANGED = "llm/changed"
POLICY_FILE = ROOT / "policies" / "serving-batch.yaml"  # one GPU a replica: many fit on a small fleet
NODES = tuple(
    Node(f"gpu-{i}", 8, objects.H100, (("capstan.node-restriction.kubernetes.io/rack", "7"),)) for i in range(8)
)


@click.command("bench")
@click.option("--records", "out", default="out", help="Folder of earlier records.")
@click.option(
    "--full", envvar="FULL", default="", help="Any value: more steps, the week, and NVIDIA's replay is fetched."
)
def command(out: str, full: str) -> None:
    """Print the last demo's figures, the last test run, the speed of replay and the delay of spec changes here."""
    process.exit_on_signals()
    click.echo(f"machine: {figures.machine()}; commit {figures.commit(ROOT)}")
    records = Path(out or "out")
    for line in (*last_demo(records / "demo" / "figures.json"), last_test(records / "test" / "junit.xml")):
        click.echo(line)
    for line in replay_speed(full=bool(full)):
        click.echo(line)
    changes, steps = (CHANGES_FULL, STEPS_FULL) if full else (CHANGES, STEPS)
    try:
        changed, stepped = measured(records / "bench", changes, steps)
    except (binaries.NotAvailable, RuntimeError) as problem:
        click.echo(f"spec change and load step to scale write: not measured, {problem}")
        return
    click.echo(told("spec change", changed, changes))
    click.echo(told("scrape that shows a load step", stepped, steps))


def replay_speed(*, full: bool) -> Iterator[str]:
    """Yield how fast replay is, in lines; `full` also the week, and NVIDIA's replay is fetched where it is absent."""
    try:
        yield from speed.lines(full=full)
    except (errors.Invalid, traces.TraceError) as problem:
        yield f"replay: not measured, {problem}"
    yield from beside_dynamo(fetch=full)


def beside_dynamo(*, fetch: bool) -> list[str]:
    """Return NVIDIA's replay of the conversation hour beside ours, in lines, or why there is none."""
    try:
        python = venvs.install(venvs.DYNAMO, click.echo) if fetch else venvs.python_of(venvs.DYNAMO)
        hour = load.conversation_hour()
        return dynamo.compare(python, hour, speed.ours(hour)).told()
    except (venvs.NotAvailable, errors.Invalid, traces.TraceError) as problem:
        return [f"dynamo.replay: not measured, {problem}"]


def last_demo(path: Path) -> list[str]:
    """Return the last demo's record as lines, with its age."""
    if not path.exists():
        return [f"demo: no record yet in {path}; run `make demo`"]
    record: Mapping[str, object] = json.loads(path.read_text())
    measured: Mapping[str, float | None] = record["figures"]  # type: ignore[assignment]  # figures.write's own file
    notes: Mapping[str, str] = record["notes"]  # type: ignore[assignment]  # see above
    lines = [f"demo: {_age(path)} old, commit {record['commit']}, {record['machine']}"]
    for name, value in measured.items():
        figure = f"not measured ({notes.get(name, 'no reason given')})" if value is None else f"{value:.3g}"
        lines.append(f"  {name:32} {figure}")
    return lines


def last_test(path: Path) -> str:
    """Return the last test run in one line."""
    if not path.exists():
        return f"tests: no record yet in {path}; run `make test`"
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))  # noqa: S314 - pytest's own file on this machine
    count, skipped, failed = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("skipped",), ("failures", "errors"))
    )
    seconds = sum(float(suite.get("time", 0)) for suite in suites)
    return f"tests: {count} in {seconds:.0f} s, {skipped} skipped, {failed} failed; {_age(path)} old"


def measured(out: Path, changes: int, steps: int) -> tuple[list[float], list[float]]:
    """Return the delays of spec changes and of load steps that were followed by a scale write, in seconds.

    The manifests, decisions and logs of the run stay in `out`.

    Raises:
        binaries.NotAvailable: No control plane can be had.
    """
    found = stage.programs()
    out.mkdir(parents=True, exist_ok=True)
    out.joinpath("decisions.jsonl").unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="capstan-bench-"))
    set_up = None
    try:
        set_up = stage.open_stage(folder, out, _quietly, found)
        _set_up(set_up, changes, steps)
        rest = functools.partial(time.sleep, REST_S)
        changed = [_change(set_up, change + 2, rest) for change in range(changes)]
        stepped = probe.load_steps(set_up, [_burst_key(step) for step in range(steps)], rest)
        return [delay for delay in changed if delay is not None], stepped
    finally:
        stage.close(folder, set_up, out)


def _change(set_up: stage.Stage, replicas: int, rest: probe.Rest) -> float | None:
    """Raise the minimum to `replicas` and return the delay of the scale write; None where it did not come in time."""
    since_s = time.time()
    probe.change_bounds(set_up, CHANGED, {"minReplicas": replicas})
    return probe.await_scale(set_up, CHANGED, since_s=since_s, timeout_s=STEP_WAIT_S, rest=rest)


def _set_up(set_up: stage.Stage, changes: int, steps: int) -> None:
    set_up.crds()
    set_up.nodes(NODES)
    set_up.simulator()
    set_up.chart()
    set_up.start_controllers(PERIODS, rate_window_s=RATE_WINDOW_S, with_power=False)
    set_up.apply(manifests.documents(ROOT / "policies" / "namespaces.yaml"), "namespaces.yaml")
    changed = _policy(CHANGED, max_replicas=changes + 2)
    stepped = [_policy(_burst_key(step), max_replicas=2) for step in range(steps)]
    set_up.apply([*manifests.profiles(stage.PROFILES), changed, *stepped], "objects.yaml")
    ready = {CHANGED: 1} | {_burst_key(step): 1 for step in range(steps)}
    set_up.wait(lambda: set_up.pods_ready(ready), "the first replicas Ready", stage.READY_S)


def _policy(key: str, *, max_replicas: int) -> dict[str, object]:
    """Return the shipped sample under another name: a replica is one GPU, so many fit on a small fleet."""
    policy = yaml.safe_load(POLICY_FILE.read_text())
    namespace, _, name = key.partition("/")
    policy["metadata"] = {"namespace": namespace, "name": name}
    policy["spec"]["servedModelName"] = name
    policy["spec"]["bounds"]["maxReplicas"] = max_replicas
    policy["spec"].pop("powerBudgetWatts")  # it would hold the plan down, and this bench is about time
    return dict(policy)


def _burst_key(step: int) -> str:
    return f"llm/step{step}"


def told(what: str, delays: list[float], count: int) -> str:
    """Return the delays of one kind in one line."""
    if not delays:
        return f"{what} to scale write: none of {count} was acted on within {STEP_WAIT_S:g} s"
    p99, median = figures.quantile(delays, 0.99), statistics.median(delays)
    return (
        f"{what} to scale write: p50 {median:.3f} s, p99 {p99:.3f} s, max {max(delays):.3f} s "
        f"({len(delays)} of {count}; instance period {PERIODS.rpartition(',')[2]} s)"
    )


def _age(path: Path) -> str:
    age = datetime.timedelta(seconds=round(time.time() - path.stat().st_mtime))
    return str(age)


def _quietly(_: str) -> None:
    """Say nothing: the bench prints its figures."""
