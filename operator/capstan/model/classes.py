"""Request classes by prompt and answer length, and how classes are split over pools (DynamoLLM section 1.2).

A class is a code: prompt bucket x number of output buckets + output bucket; with the default edges 0 is SS, 8 is LL.
A split is a tuple of pools, each an ascending tuple of codes; every code is in exactly one.
Who calls it: `optimize`, `decide`, `replay`. Must not know: who classified a request, or how.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

PROMPT_EDGES = (256, 1024)
OUTPUT_EDGES = (100, 350)
"""DESIGN 7.1: class edges in tokens, lower bound included."""

LETTERS = {1: "A", 2: "SL", 3: "SML", 4: "SMLX"}
"""Bucket letters by how many there are, shortest first (DynamoLLM's where there are three)."""

Split = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where buckets begin, in tokens, ascending; none: a single bucket."""

    prompt_tokens: tuple[int, ...] = PROMPT_EDGES
    output_tokens: tuple[int, ...] = OUTPUT_EDGES

    def __post_init__(self) -> None:
        for edges in (self.prompt_tokens, self.output_tokens):
            if list(edges) != sorted(set(edges)) or any(edge < 2 for edge in edges) or len(edges) >= len(LETTERS):
                raise ValueError("class edges must ascend without repeats, from 2 tokens on, three at most")

    @property
    def outputs(self) -> int:
        """Output buckets."""
        return len(self.output_tokens) + 1

    @property
    def prompts(self) -> int:
        """Prompt buckets."""
        return len(self.prompt_tokens) + 1

    @property
    def count(self) -> int:
        """Classes."""
        return self.prompts * self.outputs

    def code(self, prompt_tokens: float, output_tokens: float) -> int:
        """Return the class of a request."""
        prompt = bisect.bisect_right(self.prompt_tokens, prompt_tokens)
        return prompt * self.outputs + bisect.bisect_right(self.output_tokens, output_tokens)

    def prompt_bucket(self, code: int) -> int:
        """Return the prompt bucket of a class, 0 the shortest."""
        return code // self.outputs

    def name(self, code: int) -> str:
        """Return a class's name, such as SL: a short prompt and a long answer."""
        return LETTERS[self.prompts][code // self.outputs] + LETTERS[self.outputs][code % self.outputs]

    def pool_name(self, codes: tuple[int, ...]) -> str:
        """Return the name of a pool that serves these classes: `all`, `sm`, `l` by prompt, else its classes."""
        if len(codes) == self.count:
            return "all"
        buckets = sorted({self.prompt_bucket(code) for code in codes})
        if len(codes) == len(buckets) * self.outputs:
            return "".join(LETTERS[self.prompts][bucket] for bucket in buckets).lower()
        return "-".join(self.name(code) for code in codes).lower()

    def whole(self) -> Split:
        """Return the split into one pool."""
        return (tuple(range(self.count)),)
