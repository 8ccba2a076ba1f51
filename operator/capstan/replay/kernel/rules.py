"""What may be said to a world besides its trace, and what of it is refused.

Who calls it: `kernel.world`; `Emergency` is for who makes a world. Plain Python, never compiled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.model.phases import LINK_BYTES_PER_S, LINK_SETUP_S
from capstan.replay.kernel.layout import NOBODY
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.waiting import Order

LARGEST = 2**31 - 1  # ids and lengths are 32-bit in the kernel's tables


@dataclass(frozen=True, slots=True)
class Emergency:
    """What only an engine can do when it is late (DynamoLLM section 2.8): in replay only, no stock engine offers it.

    Attributes:
        ttft_s: Each request's limit on its time to first token, `[request]`.
        order: Who is admitted first.
        squash_ratio: A request without a token after so many times its limit is refused (429); inf: never.
    """

    ttft_s: Floats
    order: Order = Order.FIFO
    squash_ratio: float = math.inf

    def __post_init__(self) -> None:
        if not (np.asarray(self.ttft_s) > 0).all():
            raise ValueError("ttft_s must be above zero for every request")
        if not self.squash_ratio >= 1:
            raise ValueError("squash_ratio must be 1 or more: before its limit nobody is late")


@dataclass(frozen=True, slots=True)
class HandOver:
    """Which pools only prefill, and how what they computed gets to where it is decoded.

    Attributes:
        decode_pool: Per pool the one that decodes what it has prefilled; None: it does so itself.
        link_bytes_per_s: Bandwidth of one GPU's link; every GPU of a replica sends its share of the KV over its own.
        link_setup_s: What a transfer takes besides.
    """

    decode_pool: tuple[int | None, ...]
    link_bytes_per_s: float = LINK_BYTES_PER_S
    link_setup_s: float = LINK_SETUP_S

    def __post_init__(self) -> None:
        if not (self.link_bytes_per_s > 0 and 0 <= self.link_setup_s < math.inf):
            raise ValueError("link_bytes_per_s must be above 0, link_setup_s finite and not negative")


def check(requests: Requests, request_class: Ints | None, classes: int, emergency: Emergency | None) -> None:
    """Refuse columns that the kernel cannot play."""
    columns: tuple[Floats | Ints, ...] = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    count = len(requests)
    columns += (() if request_class is None else (request_class,)) + (() if emergency is None else (emergency.ttft_s,))
    if any(len(column) != count for column in columns):
        raise ValueError("the columns of a trace have one row per request each")
    if count == 0:
        return
    if count > LARGEST:
        raise ValueError(f"{count} requests: the kernel counts to {LARGEST}; split the trace")
    if not np.isfinite(requests.arrival_s[[0, -1]]).all() or requests.arrival_s[0] < 0:
        raise ValueError("arrival_s must be finite and not negative")
    if not (np.diff(requests.arrival_s) >= 0).all():
        raise ValueError("arrival_s must not run backwards: sort the trace")
    for name, column in (("prompt_tokens", requests.prompt_tokens), ("output_tokens", requests.output_tokens)):
        if column.min() < 1 or column.max() > LARGEST:
            raise ValueError(f"{name} must lie between 1 and {LARGEST}")
    if request_class is not None and (request_class.min() < 0 or request_class.max() >= classes):
        raise ValueError(f"request_class must lie between 0 and {classes - 1}, the rows of class_pool")


def check_chains(next_pool: Sequence[int | None]) -> None:
    """Refuse a chain of pools that leaves them, or that comes round to where it was."""
    for pool in range(len(next_pool)):
        at: int | None = pool
        for _ in next_pool:
            at = None if at is None else next_pool[at]
            if at is not None and not 0 <= at < len(next_pool):
                raise ValueError(f"next_pool of pool {pool} leads to pool {at}: there are {len(next_pool)}")
        if at is not None:
            raise ValueError(
                f"next_pool of pool {pool} comes round to where it was: let one pool of the chain have none"
            )


def check_landings(decode_pool: Sequence[int | None], next_pool: Sequence[int | None]) -> None:
    """Refuse that KV lands, or spills, in a pool that hands over itself: it would travel for ever."""
    if len(decode_pool) != len(next_pool):
        raise ValueError(f"decode_pool must have one row for each of the {len(next_pool)} pools")
    for pool, lands in enumerate(decode_pool):
        at = lands
        while at is not None:
            if not 0 <= at < len(next_pool) or decode_pool[at] is not None:
                raise ValueError(f"the KV of pool {pool} lands in pool {at}: that must be a pool that decodes itself")
            at = next_pool[at]


def share(ratio: float) -> float:
    """Return a share of requests, refused where it is none."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"the share of requests to shed lies between 0 and 1, not at {ratio}")
    return ratio


def numbers(pools: Sequence[int | None]) -> list[int]:
    """Return pools as the kernel's tables have them."""
    return [NOBODY if pool is None else pool for pool in pools]
