"""What the servers of POLCA's row do: three services, their lengths, and who is low priority.

Who calls it: `physics`, `generate`. Source: facts/polca.md 1.5 (from memory of the paper's table, so marked there).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one service; lengths are uniform between their bounds, both included.

    Attributes:
        share_ratio: Share of the row's servers.
        low: Whether its servers are low priority.
    """

    name: str
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    share_ratio: float
    low: bool

    @property
    def mean_context_tokens(self) -> float:
        """Mean context of a sequence while it decodes: its prompt and half of its answer."""
        return sum(self.prompt_tokens) / 2 + sum(self.output_tokens) / 4

    @property
    def mean_total_tokens(self) -> float:
        """Mean tokens that a finished sequence holds."""
        return sum(self.prompt_tokens) / 2 + sum(self.output_tokens) / 2


def mix(low_share_ratio: float) -> tuple[Workload, ...]:
    """Return the paper's mix with another share of low priority.

    Summarize is a quarter of the servers and low, Search a quarter and high, Chat a half and both. At a share of 0.5
    half of Chat is low; below, less of it, then less of Summarize; above, more of it, then some of Search.

    Args:
        low_share_ratio: Share of servers with low priority, in [0, 1].
    """
    if not 0 <= low_share_ratio <= 1:
        raise ValueError("low_share_ratio lies in [0, 1]")
    kinds = (
        ("summarize", (2048, 8192), (256, 512), 0.25),
        ("chat", (2048, 4096), (128, 2048), 0.5),
        ("search", (512, 2048), (1024, 2048), 0.25),
    )
    left, made = low_share_ratio, []
    for name, prompt, output, share in kinds:
        low = min(left, share)
        left -= low
        for part, is_low in ((low, True), (share - low, False)):
            if part > 1e-9:
                made.append(Workload(f"{name}-{'low' if is_low else 'high'}", prompt, output, part, is_low))
    return tuple(made)


def of_server(workloads: tuple[Workload, ...], servers: int) -> tuple[int, ...]:
    """Return the workload of each server: shares are kept as well as whole servers allow at every count.

    Server by server, the workload that is furthest behind its share: adding servers never changes those before.
    """
    counts = [0] * len(workloads)
    chosen = []
    for number in range(servers):
        behind = [w.share_ratio * (number + 1) - count for w, count in zip(workloads, counts, strict=True)]
        chosen.append(max(range(len(workloads)), key=lambda i: (behind[i], -i)))
        counts[chosen[-1]] += 1
    return tuple(chosen)
