"""`python -m rig.load`: play a list of requests against the engines of a cluster."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import click

from rig.load import balance, driver
from rig.simulator import pods
from rig.simulator.api import Api, Mirror
from rig.simulator.server import ENGINE_PORT

FIRST_LOOK_S = 10.0  # a cluster that does not show its pods within that is not there


@click.command()
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--requests", "requests_file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--out", "out_file", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--start-at", type=float, help="Unix seconds at which t = 0; default: now.")
@click.option("--drain-seconds", type=float, default=driver.DRAIN_S, show_default=True)
def main(kubeconfig: Path, requests_file: Path, out_file: Path, start_at: float | None, drain_seconds: float) -> None:
    """Play requests as real HTTP, open loop, and write one JSON line per outcome."""
    try:
        requests = driver.read(requests_file.read_text().splitlines())
    except ValueError as error:
        raise click.ClickException(f"{requests_file}: {error}") from error
    asyncio.run(_play(kubeconfig, requests, out_file, start_at or time.time(), drain_seconds))


async def _play(
    kubeconfig: Path, requests: list[driver.Planned], out_file: Path, start_at: float, drain_s: float
) -> None:
    zero_s = time.monotonic() + (start_at - time.time())
    balancer = balance.Balancer()
    seen = asyncio.Event()

    def look() -> None:
        engine_pods = (pods.engine_pod(pod) for pod in mirror.objects.values())
        balancer.update(balance.backends((pod for pod in engine_pods if pod), ENGINE_PORT))
        seen.set()

    connector = aiohttp.TCPConnector(limit=0)  # an open loop sends what is due, whatever is still under way
    with out_file.open("w") as out:
        async with Api(kubeconfig) as api, aiohttp.ClientSession(connector=connector) as session:
            mirror = Mirror(api, "/api/v1/pods", look)
            watching = asyncio.create_task(mirror.run())
            try:
                async with asyncio.timeout(FIRST_LOOK_S):
                    await seen.wait()
                player = driver.Driver(session, balancer, lambda: time.monotonic() - zero_s, out)
                await player.play(requests, drain_s=drain_s)
            finally:
                watching.cancel()
    print(f"{player.done} requests, {player.failed} failed -> {out_file}", flush=True)


main()
