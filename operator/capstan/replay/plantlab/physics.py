"""A second of the plant, slice by slice: load, clocks, board limiters, watts at the feed.

Who calls it: `world`. Compiled; plain Python over records, so it also runs as it is (the oracle that must be equal to
the last bit). Must not know: budgets, priorities, controllers.

A server is one replica on all its boards. While prompts wait it prefills, one after the other and alone (a step that
mixes decoding in draws less); else it decodes. All boards of a replica do the same and wait for the slowest.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.plantlab.layout import (
    BATCH_ROWS,
    BATCH_STEP,
    CLOCK_POINTS,
    RIPPLE_POINTS,
    SLICE_S,
    SLICES,
    SLICES_PER_BIN,
    SUPPLY_POINTS,
    Floats,
    Records,
)

WATTS_PER_CLOCK = 2.0  # exponent by which a limiter expects watts to follow the clock: square to cube near the top
RIPPLE_STRIDE = 97  # slices between two servers' places in the one table of ripple: they do not move together


def second(plant: np.void, servers: Records, boards: Records, requests: Records, out: Floats) -> None:
    """Play one second and add mean AC watts per domain to the next rows of `out` [bin, domain]; 0 is all of it."""
    for _ in range(SLICES):
        now_s = plant["slice"] * SLICE_S
        row = plant["slice"] // SLICES_PER_BIN
        for index in range(len(servers)):
            ac_w = server_slice(plant, servers[index], boards[index], requests, (index, now_s))
            out[row, 0] += ac_w / SLICES_PER_BIN
            out[row, servers[index]["domain"]] += ac_w / SLICES_PER_BIN
        plant["slice"] += 1


def server_slice(plant: np.void, server: np.void, boards: Records, requests: Records, at: tuple[int, float]) -> float:
    """Play one slice of a server and return its AC watts."""
    index, now_s = at
    arrive(plant, server, requests, now_s)
    slowest = 1.0
    for board in boards:
        actuate(board, now_s)
        slowest = min(slowest, clock_ratio(board))
    row = batch_row(server["batch"])
    share = serve(plant, server, requests, slowest, row)
    ripple = 1.0 + plant["ripple_ratio"][(plant["slice"] + index * RIPPLE_STRIDE) % RIPPLE_POINTS]
    drawn_w = 0.0
    for board in boards:
        watts = board_w(plant, share, row, clock_ratio(board)) * ripple
        drawn_w += watts
        reading_w = watts * board["gain_ratio"]
        server["read_w"] += reading_w / SLICES
        limit(plant, board, reading_w)
    return at_the_feed(plant, server, drawn_w)


def arrive(plant: np.void, server: np.void, requests: Records, now_s: float) -> None:
    """Queue the requests that arrive in this slice; one that would wait too long is refused."""
    while server["tail"] < server["end"] and requests[server["tail"]]["at_s"] < now_s + SLICE_S:
        request = requests[server["tail"]]
        if server["queued_s"] > plant["patience_s"]:
            request["left_s"] = 0.0
            server["refused"] += 1
        else:
            server["queued_s"] += request["left_s"]
        server["tail"] += 1


def actuate(board: np.void, now_s: float) -> None:
    """Let a lock or a limit take effect whose time has come."""
    if now_s >= board["next_cap_s"]:
        board["cap_ratio"] = board["next_cap_ratio"]
        board["next_cap_s"] = np.inf
    if now_s >= board["next_limit_s"]:
        board["limit_w"] = board["next_limit_w"]
        board["next_limit_s"] = np.inf


def clock_ratio(board: np.void) -> float:
    """Return the clock that a board runs at over its maximum, if it has work."""
    if board["stuck"] > 0.0:
        return float(board["x_ratio"])
    return float(min(board["x_ratio"], board["cap_ratio"]))


def batch_row(batch: float) -> int:
    """Return the row of the decode tables for a batch."""
    return min(int(batch / BATCH_STEP + 0.5), BATCH_ROWS - 1)


def serve(plant: np.void, server: np.void, requests: Records, x: float, row: int) -> float:
    """Work for one slice at a clock, and return the share of it that went into prefill; -1: there was no work."""
    seats = (BATCH_ROWS - 1) * BATCH_STEP
    slowdown = between(plant["prefill_slowdown"], plant, x)
    todo_s = SLICE_S / slowdown if server["batch"] < seats else 0.0
    done_s = 0.0
    while server["head"] < server["tail"] and done_s < todo_s:
        request = requests[server["head"]]
        part_s = min(request["left_s"], todo_s - done_s)
        request["left_s"] -= part_s
        done_s += part_s
        if request["left_s"] <= 1e-12:
            server["batch"] += 1.0 if part_s > 0.0 else 0.0  # a refused one has nothing left, and no sequence
            server["head"] += 1
    server["queued_s"] = max(server["queued_s"] - done_s, 0.0)
    share = done_s * slowdown / SLICE_S
    if server["batch"] <= 0.0 and done_s <= 0.0:
        return -1.0
    step_s = between(plant["decode_s"][row], plant, x)
    left_s = (1.0 - share) * SLICE_S if server["batch"] > 0.0 else 0.0
    server["busy_s"] += share * SLICE_S + left_s
    server["ideal_s"] += done_s + left_s * plant["decode_s"][row][CLOCK_POINTS - 1] / step_s
    server["batch"] -= server["batch"] * min(left_s / step_s / plant["output_tokens"], 1.0)
    if server["batch"] < 0.5:  # less than half a sequence is none: nothing fades for ever
        server["batch"] = 0.0
    return share


def board_w(plant: np.void, share: float, row: int, x: float) -> float:
    """Return the mean watts of a board over a slice of which `share` is prefill."""
    if share < 0.0:
        return float(plant["idle_w"])
    decoding_w = between(plant["decode_w"][row], plant, x)
    return share * between(plant["prefill_w"], plant, x) + (1.0 - share) * decoding_w


def between(table: Floats, plant: np.void, x: float) -> float:
    """Return a table over the clock at `x`, on the line between its two neighbours."""
    place = max((x - plant["min_ratio"]) / plant["grid_ratio"], 0.0)
    low = min(int(place), CLOCK_POINTS - 2)
    part = min(place - low, 1.0)
    return float(table[low] * (1.0 - part) + table[low + 1] * part)


def limit(plant: np.void, board: np.void, reading_w: float) -> None:
    """Let a board's limiter act on its own reading: down by the excess, up again in about a second.

    It holds the newest slice and the mean of the last second alike, so what escapes is one loop of each rise.
    """
    board["recent_w"] += (reading_w - board["recent_w"]) * SLICE_S
    over_ratio = 1.0 - board["limit_w"] / max(reading_w, board["recent_w"], 1.0)
    if over_ratio > 0.0:
        kept = 1.0 - board["attack_ratio"] * over_ratio / WATTS_PER_CLOCK
        board["x_ratio"] = max(clock_ratio(board) * kept, plant["min_ratio"])
    else:
        board["x_ratio"] += (1.0 - board["x_ratio"]) * SLICE_S / plant["release_s"]


def at_the_feed(plant: np.void, server: np.void, boards_w: float) -> float:
    """Return AC watts of a server whose boards draw so much: the rest of it follows, and the supplies lose some."""
    goal_w = min(plant["non_gpu_idle_w"] + plant["non_gpu_per_w"] * boards_w, plant["non_gpu_most_w"])
    server["non_gpu_w"] += (goal_w - server["non_gpu_w"]) * SLICE_S / plant["non_gpu_settle_s"]
    dc_w = boards_w + server["non_gpu_w"]
    place = min(dc_w / plant["rated_w"], 1.0) * (SUPPLY_POINTS - 1)
    low = min(int(place), SUPPLY_POINTS - 2)
    part = place - low
    ac_w = dc_w / (plant["supply_ratio"][low] * (1.0 - part) + plant["supply_ratio"][low + 1] * part)
    server["ac_j"] += ac_w * SLICE_S
    return float(ac_w)
