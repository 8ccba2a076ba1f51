"""What one server of a row does at each clock: how fast it decodes and prefills, and what it draws.

Who calls it: `generate` and `play`, once per run. Must not know: time, arrivals, caps in force.

A server holds one replica of the LLM on all its GPUs. A prompt is computed alone, while decoding waits (an engine of
2023, whose measurements the profile holds); then its sequence decodes with the others. So a server is in one of three
states, idle, prefill or decoding `b` sequences, and everything about it is a table over `b` and the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.replay.row.workloads import Workload
from capstan.replay.runs import Floats

GPUS = 8
TYPICAL_PROMPT_TOKENS = 4096  # at which the slowdown of prefill is taken: it hardly depends on the prompt's length


@dataclass(frozen=True, slots=True)
class Server:
    """The watts of one server, AC, at the maximum clock, as shares of the most that one draws.

    Attributes:
        peak_w: The most that one was seen to draw, in prefill.
        gpu_share_ratio: Share of `peak_w` that its GPUs draw.
        idle_ratio, decode_ratio, prefill_ratio: What a GPU draws in each state, as shares of its TDP.
        clock_exponent_ratio: What a GPU draws above idle goes with the clock to this power.
        follows_ratio: Share of `peak_w` that follows the load: the GPUs' and what fans and host draw for them.
        supply_efficiency_ratio: DC over AC of its power supplies.
    """

    peak_w: float
    gpu_share_ratio: float
    idle_ratio: float
    decode_ratio: float
    prefill_ratio: float
    clock_exponent_ratio: float
    follows_ratio: float
    supply_efficiency_ratio: float

    @property
    def boards_w(self) -> float:
        """DC watts of all its boards at its peak."""
        return self.peak_w * self.gpu_share_ratio * self.supply_efficiency_ratio

    @property
    def other_worst_w(self) -> float:
        """DC watts of everything else at its peak."""
        return self.peak_w * (1 - self.gpu_share_ratio) * self.supply_efficiency_ratio

    def __post_init__(self) -> None:
        if self.peak_w <= 0 or not 0 < self.supply_efficiency_ratio <= 1:
            raise ValueError("a server needs 0 < peak_w and supplies with an efficiency in (0, 1]")
        if not 0 < self.idle_ratio < self.decode_ratio <= self.prefill_ratio:
            raise ValueError("a GPU needs 0 < idle < decode <= prefill")
        if not 0 < self.gpu_share_ratio <= self.follows_ratio < 1:
            raise ValueError("a server needs 0 < gpu_share_ratio <= follows_ratio < 1")


class Tables(NamedTuple):
    """Numbers for the compiler; axes: workload `w`, decoding sequences `b`, clock `k` ascending.

    Attributes:
        clocks_mhz: `[k]`.
        decode_per_s: Tokens per second of each sequence, `[w, b, k]`; row 0 is never asked for.
        decode_w: AC watts of the server while it decodes, `[k]`: measured ones hardly grow with the batch.
        prefill_speed: Work done per second of prefill at full clock, `[k]`.
        prefill_w: AC watts in prefill, `[k]`.
        decode_board_w, prefill_board_w: What one of its boards draws then, `[k]`.
        idle_w, idle_board_w: AC watts with the model loaded and no request, and of one board.
        slots: Sequences that fit into the KV cache, `[w]`.
    """

    clocks_mhz: Floats
    decode_per_s: Floats
    decode_w: Floats
    prefill_speed: Floats
    prefill_w: Floats
    decode_board_w: Floats
    prefill_board_w: Floats
    idle_w: float
    idle_board_w: float
    slots: np.typing.NDArray[np.int64]


def tables(profile: Profile, workloads: tuple[Workload, ...], server: Server, power_scale: float) -> Tables:
    """Return the tables of a server that runs one of some workloads.

    Args:
        profile: The LLM on all GPUs of the server.
        workloads: One per kind of server.
        server: Its watts.
        power_scale: The GPUs draw this multiple of what they should.
    """
    clocks = profile.clocks
    steps = int((clocks.max_mhz - clocks.min_mhz) / clocks.step_mhz + 1e-9)
    mhz = np.asarray(clocks.min_mhz + clocks.step_mhz * np.arange(steps + 1), np.float64)
    ratios = mhz / clocks.max_mhz
    slots = np.array([_slots(profile, workload) for workload in workloads])
    per_s = np.zeros((len(workloads), int(slots.max()) + 1, len(mhz)))
    for w, workload in enumerate(workloads):
        for b in range(1, int(slots[w]) + 1):
            context = b * workload.mean_context_tokens
            per_s[w, b] = [1 / latency.decode_step_s(profile, b, context, x) for x in ratios]
    full_s = latency.prefill_step_s(profile, TYPICAL_PROMPT_TOKENS, 1.0)
    prefill_s = np.array([latency.prefill_step_s(profile, TYPICAL_PROMPT_TOKENS, x) for x in ratios])
    clocked = ratios**server.clock_exponent_ratio

    decode, prefill = (
        (server.idle_ratio + (full - server.idle_ratio) * clocked) * power_scale
        for full in (server.decode_ratio, server.prefill_ratio)
    )
    board_w = server.boards_w / server.prefill_ratio / GPUS

    return Tables(
        clocks_mhz=mhz,
        decode_per_s=per_s,
        decode_w=_ac_w(server, decode, server.decode_ratio),
        prefill_speed=full_s / prefill_s,
        prefill_w=_ac_w(server, prefill, server.prefill_ratio),
        decode_board_w=decode * board_w,
        prefill_board_w=prefill * board_w,
        idle_w=float(_ac_w(server, np.array(server.idle_ratio * power_scale), server.idle_ratio)),
        idle_board_w=server.idle_ratio * power_scale * board_w,
        slots=slots,
    )


def prefill_work_s(profile: Profile, tokens: Floats) -> Floats:
    """Return the seconds at full clock that prompts of some lengths take."""
    return np.array([latency.prefill_step_s(profile, float(n), 1.0) for n in tokens])


def _ac_w(server: Server, gpu_ratio: Floats, full_ratio: float) -> Floats:
    """Return AC watts of a server.

    In prefill at the maximum clock it draws `peak_w`, of which `gpu_share_ratio` are the GPUs'. Of the rest, a part is
    always drawn, and a part follows what the server does, whatever its clock: a cap saves GPU watts and no others.

    Args:
        server: Its watts.
        gpu_ratio: What a GPU draws at a clock, as a share of its TDP.
        full_ratio: What it would draw in the same state at the maximum clock.
    """
    gpus = server.gpu_share_ratio * gpu_ratio / server.prefill_ratio
    beside = (server.follows_ratio - server.gpu_share_ratio) * full_ratio / server.prefill_ratio
    return server.peak_w * (1 - server.follows_ratio + beside + gpus)


def _slots(profile: Profile, workload: Workload) -> int:
    """Return how many sequences of a workload the KV cache holds."""
    return min(int(profile.kv_tokens // workload.mean_total_tokens), profile.max_num_seqs)
