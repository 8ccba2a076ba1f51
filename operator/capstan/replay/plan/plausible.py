"""Whether a trace can be the draw of so many servers under such a budget: wrong units and wrong counts say so here.

Who calls it: `app.fit`, once, before anything is planned. Must not know: files beyond their name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from capstan.powercap.domains import Domain
from capstan.powercap.safety import OVERSHOOT_RATIO
from capstan.replay.plan.planned import Server
from capstan.replay.plan.tape import WATTS, WEEK_S, Tape
from capstan.replay.traces.errors import TraceError

UNITS = (("kilowatts", 1e3), ("megawatts", 1e6), ("milliwatts", 1e-3))
COMMON_SHARE = 0.999  # a peak that a thousandth of the seconds does not come near is a single wrong sample


def refuse(path: Path, tape: Tape, domain: Domain, server: Server, servers: int) -> None:
    """Refuse watts that these servers cannot draw.

    Raises:
        TraceError: The column and the fix.
    """
    least_w, most_w = bounds_w(domain, server, servers)
    highest_w = float(np.nanmax(tape.watts))
    if least_w <= highest_w <= most_w:
        return
    usual_w = float(np.nanquantile(tape.watts, COMMON_SHARE))
    if highest_w > most_w >= usual_w >= least_w:
        at_s = int(np.nanargmax(tape.watts))
        fix = (
            f"{highest_w:,.0f} W, {at_s:,} s after the first row, is more than {servers} servers draw ({most_w:,.0f} W)"
        )
        raise TraceError(path, None, WATTS, f"{fix}; correct the row, or leave the cell empty")
    for name, factor in UNITS:
        if least_w <= highest_w * factor <= most_w:
            fix = f"the highest is {highest_w:,.4g}: these are {name}; write AC watts (multiply by {factor:g})"
            raise TraceError(path, None, WATTS, fix)
    raise TraceError(
        path, None, WATTS, f"the highest is {highest_w:,.0f} W, and {servers} servers draw {least_w:,.0f} W idle and "
        f"{most_w:,.0f} W at the most; correct --servers, --gpus, or the PowerDomain's nonGPUWattsPerNode",
    )  # fmt: skip


def bounds_w(domain: Domain, server: Server, servers: int) -> tuple[float, float]:
    """Return (AC watts of the servers idle, and with every board at its stock limit and over it)."""
    boards_w = server.gpus * server.profile.draw.limit_w * OVERSHOOT_RATIO
    worst_w = (boards_w + domain.non_gpu_worst_w) / domain.supply_efficiency_ratio
    return servers * server.always_w(domain), servers * worst_w


def doubts(tape: Tape, latency_s: float) -> tuple[str, ...]:
    """Return what a reader must know of a trace before believing a plan."""
    said = []
    days = tape.heard_s / 86_400
    if tape.heard_s < WEEK_S:
        said.append(f"{days:.1f} days of watts: a week is the least that has seen every day of it.")
    if tape.period_s > latency_s:
        said.append(
            f"Samples are {tape.period_s:g} s apart, and caps bite after {latency_s:g} s: rises between two samples "
            "are not seen, and thresholds rest on slower ones; record faster."
        )
    gaps_s = len(tape.watts) - tape.heard_s
    if gaps_s:
        said.append(
            f"{gaps_s:,} of {len(tape.watts):,} seconds hold no value ({tape.lost:,} samples without one): nothing is "
            "counted in them."
        )
    return tuple(said)
