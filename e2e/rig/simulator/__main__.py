"""`python -m rig.simulator`: the kubelet, the engines and the exporters of the rig's GPU nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from capstan.api import convert
from capstan.model.profile import Profile
from rig.simulator import main as simulator
from rig.simulator import sd
from rig.simulator.profiles import Profiles

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--dir", "folder", required=True, type=FOLDER, help="Where node folders and truth.jsonl go; keep it short."
)
@click.option("--profiles", "profiles_folder", required=True, type=FOLDER, help="ServingProfiles as YAML: the physics.")
@click.option("--listen", default="127.0.0.1", show_default=True)
@click.option(
    "--sd-port", default=0, show_default=True, help="Port of /sd and dcgm's /metrics; 0: any, see simulator.json."
)
@click.option(
    "--extra-target", "extra_targets", multiple=True, help="job=host:port, once per target of Prometheus' own."
)
def main(
    kubeconfig: Path, folder: Path, profiles_folder: Path, listen: str, sd_port: int, extra_targets: tuple[str, ...]
) -> None:
    """Simulate the GPU nodes of a control plane that KWOK keeps alive, until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        profiles = Profiles(list(_profiles(profiles_folder)))
        extra = tuple(sd.from_options(extra_targets))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    options = simulator.Options(kubeconfig, folder.resolve(), profiles, listen, sd_port, extra)
    asyncio.run(_until_signalled(options))


async def _until_signalled(options: simulator.Options) -> None:
    running = asyncio.ensure_future(simulator.run(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


def _profiles(folder: Path) -> Iterator[Profile]:
    """Yield the ServingProfiles of a folder's YAML files; ValueError for one that `api.convert` refuses."""
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "ServingProfile":
                yield convert.profile(document)


main()
