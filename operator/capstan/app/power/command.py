"""The command `capstan power`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import click

from capstan.adapters import errors
from capstan.app import logs, settings
from capstan.app.power.process import Process, Settings

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--kubeconfig", type=FILE, help="Default: KUBECONFIG, then the pod's ServiceAccount.")
@click.option("--namespace", default="capstan-system", show_default=True, help="Where our Leases and the agents live.")
@click.option("--identity", default=lambda: f"{socket.gethostname()}-{os.getpid()}", help="Unique per process.")
@click.option("--key-file", type=FILE, required=True, help="The key shared with the agents, read again when needed.")
@click.option(
    "--shards",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Leases among which root domains are divided; the same in every process.",
)
@click.option("--prometheus-url", default="", help="Where spec.meter and spec.feeds are read, beside the 1 s loop.")
@click.option("--prometheus-token-file", type=FILE, help="Bearer token.")
@click.option("--prometheus-ca-file", type=FILE, help="CA of the certificate.")
@click.option("--tick-seconds", type=click.FloatRange(min=0.1, max=2), default=1.0, show_default=True, help="Period.")
@click.option("--timer-factor", type=click.FloatRange(min=1), default=1.0, hidden=True,
              help="Levels wait 1/x as long; leases, ticks and sample ages stay (the rig's proof).")  # fmt: skip
@click.option(
    "--listen", type=settings.ADDRESS, default="0.0.0.0:8081", show_default=True, help="/metrics, /healthz, /readyz."
)
def command(**given: object) -> None:
    """Watch PowerDomains; hear the agents every second; cap low priority first."""
    logs.configure()
    try:
        sys.exit(asyncio.run(_run(Settings.model_validate(given))))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem


async def _run(given: Settings) -> int:
    return await Process(given).run()
