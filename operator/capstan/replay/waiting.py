"""The queue before one replica: in order of arrival as stock engines have it, or by urgency.

Who calls it: `replay.world`, and the kernel for the word of an order. Must not know: other replicas, power. Another
order than FIFO and giving up are what only an engine can do in an emergency (DynamoLLM section 2.8, steps 1 and 4):
no stock engine offers them, so they are off unless asked for, and in replay only.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.model.workload import Request


class Order(StrEnum):
    """Who is admitted first: who came first, or who has the least time to spare before its first token is late."""

    FIFO = "fifo"
    LEAST_LAXITY = "least-laxity"


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside the engine.

    Attributes:
        request: Its lengths.
        ready_s: When the host has tokenised it.
        made: Output tokens that exist.
        computed: Tokens of it in the KV cache; in the queue above zero only where they came from another replica.
        goal: Tokens to compute before it decodes: its prompt, and after a preemption what it had made, too.
        counted: Prompt tokens already in the engine's total; those computed again are not counted again.
        deadline_s: When its first token is late.
        patience_s: When it is given up, if it has no token by then.
    """

    request: Request
    ready_s: float
    goal: int
    made: int = 0
    computed: int = 0
    counted: int = 0
    deadline_s: float = math.inf
    patience_s: float = math.inf

    @property
    def decoding(self) -> bool:
        """Whether its next token takes a decode step."""
        return self.computed >= self.goal

    @property
    def due(self) -> int:
        """Tokens that it would compute in the next step if the budget were endless."""
        return 1 if self.decoding else self.goal - self.computed


class Waiting:
    """The queue. Nobody is ready before who came first, whatever the order of admission."""

    def __init__(self, profile: Profile, order: Order) -> None:
        self._profile = profile
        self._order = order
        self._queue: deque[Sequence] = deque()
        self._impatient = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def ready_s(self) -> float:
        """When the first of the queue can be scheduled; inf where there is none."""
        return self._queue[0].ready_s if self._queue else math.inf

    def join(self, sequence: Sequence) -> None:
        """Queue a request that arrives."""
        if self._queue:
            sequence.ready_s = max(sequence.ready_s, self._queue[-1].ready_s)
        self._queue.append(sequence)
        self._impatient = self._impatient or sequence.patience_s < math.inf

    def send_back(self, sequence: Sequence) -> None:
        """Put a preempted request before everybody."""
        self._queue.appendleft(sequence)

    def turn(self, now_s: float) -> Sequence | None:
        """Return whose turn it is; who waits for it blocks those behind."""
        if self.ready_s > now_s:
            return None
        if self._order is Order.FIFO:
            return self._queue[0]
        ready = (sequence for sequence in self._queue if sequence.ready_s <= now_s)
        return min(ready, key=lambda sequence: self._rank(sequence, now_s))

    def take(self, sequence: Sequence) -> None:
        """Remove a request."""
        self._queue.remove(sequence)

    def give_up(self, now_s: float) -> list[Sequence]:
        """Remove and return those without a token that are ready and whose patience is over."""
        if not self._impatient:
            return []
        late = [s for s in self._queue if s.ready_s <= now_s and s.made == 0 and now_s > s.patience_s]
        for sequence in late:
            self._queue.remove(sequence)
        return late

    def _rank(self, sequence: Sequence, now_s: float) -> tuple[bool, bool, float, int]:
        """Return who is first: who has tokens already, then who can be in time, then the others as they came."""
        if sequence.made > 0:
            return (False, False, 0.0, 0)
        prompt_tokens = float(sequence.request.prompt_tokens)
        laxity_s = sequence.deadline_s - now_s - latency.prefill_step_s(self._profile, prompt_tokens, 1.0)
        return (True, laxity_s < 0, max(laxity_s, 0.0), sequence.request.request_id)
