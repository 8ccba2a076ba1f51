"""`python -m rig up|down|which|build`: a control plane to play with, without pytest and without a demo."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from rig import binaries, keeper, objects, power_cli, process, prometheus
from rig.controlplane import PROGRAMS, ControlPlane
from rig.tools import TOOLS

ROOT = Path(__file__).parents[2]
NODES = 2
SOCKET_PATH_MAX = 107  # sun_path of Linux, less the closing zero
LONGEST_SOCKET = "/nodes/gpu-000/pod-resources.sock"  # what the simulator puts under the folder
CHECK_S = 1

folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".rig",
    show_default=".rig in the repository",
    help="Folder of everything that the rig writes.",
)
names_argument = click.argument("names", nargs=-1, type=click.Choice(list(TOOLS)))


@click.group()
def main() -> None:
    """Run a real Kubernetes control plane on this machine, without a container engine."""


@main.command()
@folder_option
@click.option("--detach", is_flag=True, help="Return once it is up; `down` ends it.")
@click.option("--prometheus/--no-prometheus", "with_prometheus", default=True, show_default=True)
def up(folder: Path, *, detach: bool, with_prometheus: bool) -> None:
    """Start a control plane with our CRDs, two GPU nodes and Prometheus."""
    folder = folder.resolve()
    if len(f"{folder}{LONGEST_SOCKET}") > SOCKET_PATH_MAX:
        longest = SOCKET_PATH_MAX - len(LONGEST_SOCKET)
        raise click.UsageError(f"--dir {folder}: Unix sockets below it need a path of at most {longest} characters")
    if (state := keeper.living(folder)) is not None:
        _tell(state, "already up")
        return
    process.sweep(folder)
    programs = binaries.find([*PROGRAMS, *(["prometheus"] if with_prometheus else [])])
    if detach:
        option = "--prometheus" if with_prometheus else "--no-prometheus"
        _tell(keeper.leave(folder, ["up", "--dir", str(folder), option]), "up")
    else:
        _keep(folder, programs, with_prometheus=with_prometheus)


@main.command()
@folder_option
def down(folder: Path) -> None:
    """Stop the rig of a folder, and whatever a crashed one left."""
    was_up = keeper.end(folder.resolve())
    click.echo("the rig is down" if was_up else f"no rig is up in {folder}")


@main.command()
@names_argument
def which(names: tuple[str, ...]) -> None:
    """Say which program is used, where it came from and its version; nothing is built."""
    missing = False
    for name in names or TOOLS:
        try:
            click.echo(binaries.find([name], may_build=False)[name])
        except binaries.NotAvailable as problem:
            click.echo(problem)
            missing = True
    sys.exit(1 if missing else 0)


@main.command("build")
@names_argument
def build_command(names: tuple[str, ...]) -> None:
    """Build what is not to be found, and say what is used."""
    for binary in binaries.find(names or TOOLS).values():
        click.echo(binary)


@main.command("demo", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def demo_command(args: tuple[str, ...]) -> None:
    """Play the demo: a real control plane, a simulated fleet, a trace, a verdict."""
    from rig.demo.command import command  # matplotlib and rich are not needed to start a rig

    command.main(args=list(args), prog_name="rig demo")


@main.command("bench", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def bench_command(args: tuple[str, ...]) -> None:
    """Print the figures of the last demo and of this machine."""
    from rig.bench import command

    command.main(args=list(args), prog_name="rig bench")


@main.command("decide", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def decide_command(args: tuple[str, ...]) -> None:
    """Print what a decision costs over many policies, and how still it is at a constant load."""
    from rig.deciding import command

    command.main(args=list(args), prog_name="rig decide")


main.add_command(power_cli.power)


def _keep(folder: Path, programs: dict[str, binaries.Binary], *, with_prometheus: bool) -> None:
    """Run the rig until a signal comes or a component ends."""
    process.exit_on_signals()
    try:
        with ControlPlane(folder, programs=programs) as rig:
            crds = rig.apply_crds(ROOT / "crds")
            nodes = rig.nodes(NODES)
            state = keeper.State.of_this_process(
                kubeconfig=rig.kubeconfig,
                prometheus=rig.start_prometheus(prometheus.Config()) if with_prometheus else "",
                server=str(rig.programs["kube-apiserver"]),
                holds=f"{len(crds)} CRDs, {len(nodes)} nodes of {objects.NodeSpec().gpus} GPUs",
            )
            state.write(folder)
            _tell(state, "up; Ctrl-C ends it")
            while True:
                rig.supervisor.check()
                time.sleep(CHECK_S)
    except KeyboardInterrupt:
        click.echo("rig: down", err=True)
    finally:
        keeper.retire(folder)


def _tell(state: keeper.State, what: str) -> None:
    """Say what is up; the line to copy is alone on stdout, so that `eval "$(…)"` works."""
    click.echo(f"rig {what}: {state.server}; {state.holds}", err=True)
    if state.prometheus:
        click.echo(f"Prometheus: {state.prometheus}", err=True)
    click.echo(f"export KUBECONFIG={state.kubeconfig}")


def run() -> None:
    """Entry point: a missing program or a failed component is one line, not a traceback."""
    try:
        main()
    except (binaries.NotAvailable, process.ChildError) as problem:
        sys.exit(f"rig: {problem}")


if __name__ == "__main__":
    run()
