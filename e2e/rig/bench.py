"""`python -m rig bench`: the figures of the last demo, and how soon a spec change is acted on, on this machine.

Figures are printed, never judged: nothing fails on a time. The second part starts a control plane and an operator of
its own, without engines under load, and raises `minReplicas` one step at a time; each step's delay runs from the API
server's answer to the scale write that it received (both from its audit log).
"""

from __future__ import annotations

import datetime
import json
import statistics
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import click
import yaml

from capstan.replay.pool import Node
from rig import binaries, objects, process
from rig.demo import audit, figures, manifests, stage
from rig.demo.stage import ROOT

CHANGES = 20
CHANGES_FULL = 30  # the fleet below holds 32 replicas
STEP_WAIT_S = 6.0  # longer than an instance period of 1 s by far: a step that takes this long is reported as missing
PERIODS = "30,30,1"
POLICY_FILE = ROOT / "policies" / "serving-batch.yaml"  # one GPU a replica: twenty steps fit on a small fleet
NODES = tuple(
    Node(f"gpu-{i}", 8, objects.H100, (("capstan.node-restriction.kubernetes.io/rack", "7"),)) for i in range(4)
)


@click.command("bench")
@click.option("--out", envvar="OUT", default="out", help="Folder of earlier records.")
@click.option("--full", envvar="FULL", default="", help="Any value: more steps.")
def command(out: str, full: str) -> None:
    """Print the last demo's figures, the last test run, and the delay of spec changes on this machine."""
    process.exit_on_signals()
    click.echo(f"machine: {figures.machine()}; commit {figures.commit(ROOT)}")
    records = Path(out or "out")
    for line in (*last_demo(records / "demo" / "figures.json"), last_test(records / "test" / "junit.xml")):
        click.echo(line)
    try:
        delays = spec_changes(CHANGES_FULL if full else CHANGES)
    except binaries.NotAvailable as problem:
        click.echo(f"spec change to scale write: not measured, {problem}")
        return
    click.echo(told(delays, CHANGES_FULL if full else CHANGES))


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


def spec_changes(count: int) -> list[float]:
    """Return the delay of each spec change that was followed by a scale write, in seconds.

    Raises:
        binaries.NotAvailable: No control plane can be had.
    """
    found = stage.programs()
    folder = Path(tempfile.mkdtemp(prefix="capstan-bench-"))
    set_up = None
    try:
        set_up = stage.open_stage(folder, folder, _quietly, found)
        return _measured(set_up, count)
    finally:
        stage.close(folder, set_up, folder, keep_logs=False)


def _measured(set_up: stage.Stage, count: int) -> list[float]:
    set_up.crds()
    set_up.nodes(NODES)
    set_up.simulator()
    set_up.chart()
    set_up.start_controllers(PERIODS, rate_window_s=8.0, with_power=False)
    policy = yaml.safe_load(POLICY_FILE.read_text())
    policy["spec"]["bounds"]["maxReplicas"] = count + 2
    key = f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"
    set_up.apply(manifests.documents(ROOT / "policies" / "namespaces.yaml"), "namespaces.yaml")
    set_up.apply([*manifests.profiles(stage.PROFILES), policy], "objects.yaml")
    set_up.wait(lambda: set_up.pods_ready({key: 1}), "the first replica Ready", stage.READY_S)
    for step in range(count):
        patch = {"spec": {"bounds": {"minReplicas": step + 2}}}
        set_up.patch("servingpolicy", key.rpartition("/")[2], patch, f"--namespace={key.partition('/')[0]}")
        _wait_for(set_up, key, step + 1)
    return audit.spec_to_scale_s(_writes(set_up), key)


def _wait_for(set_up: stage.Stage, key: str, scaled: int) -> None:
    """Wait until that many steps were acted on, not longer than a step may take."""
    deadline_s = time.monotonic() + STEP_WAIT_S
    while time.monotonic() < deadline_s and len(audit.spec_to_scale_s(_writes(set_up), key)) < scaled:
        time.sleep(0.2)


def _writes(set_up: stage.Stage) -> list[audit.Write]:
    with set_up.control.audit_log.open() as log:
        return audit.read(log)


def told(delays: list[float], count: int) -> str:
    """Return the delays in one line."""
    if not delays:
        return f"spec change to scale write: none of {count} was acted on within {STEP_WAIT_S:g} s"
    p99, median = figures.quantile(delays, 0.99), statistics.median(delays)
    return (
        f"spec change to scale write: p50 {median:.3f} s, p99 {p99:.3f} s, max {max(delays):.3f} s "
        f"({len(delays)} of {count} changes, instance period {PERIODS.rpartition(',')[2]} s)"
    )


def _age(path: Path) -> str:
    age = datetime.timedelta(seconds=round(time.time() - path.stat().st_mtime))
    return str(age)


def _quietly(_: str) -> None:
    """Say nothing: the bench prints its figures."""
