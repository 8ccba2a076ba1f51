"""The classes of a study: shares, mean lengths, and the limits of their prompt lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.api.scenario import SloSet
from capstan.model.classes import Edges
from capstan.model.slo import Slo
from capstan.replay import published, queueing
from capstan.replay.scores import limits
from capstan.replay.study import loads
from capstan.replay.traces.tables import Lengths

CHAT = Slo(2.0, 0.1)
BY_CLASS = limits.aim(SloSet.CLASS, CHAT)


def always(prompt_tokens: int, output_tokens: int) -> published.Statistics:
    """A service whose requests are all alike."""
    both = Lengths(np.array([0.0, 1.0]), np.full(2, float(prompt_tokens)), np.full(2, float(output_tokens)))
    return dataclasses.replace(published.CONVERSATION, lengths=both)


def test_requests_that_are_all_alike_are_one_class_without_spread() -> None:
    (only,) = loads.of(always(600, 400), Edges(), CHAT)
    assert (only.name, only.share_ratio) == ("ML", 1.0)
    assert (only.load.prompt_tokens, only.load.output_tokens) == (600, 400)
    assert only.load.prompt_cv2_ratio == 0
    assert only.load.arrival_rps == 0


@pytest.mark.parametrize(
    ("prompt_tokens", "ttft_s"),
    [(255, 0.25), (256, 0.4), (1023, 0.4), (1024, 2.0)],
    ids=["last short one", "first medium one", "last medium one", "first long one"],
)
def test_a_class_has_the_limit_of_its_prompt_lengths(prompt_tokens: int, ttft_s: float) -> None:
    (only,) = loads.of(always(prompt_tokens, 50), Edges(), BY_CLASS)
    assert only.slo == Slo(ttft_s, 0.1)


def test_edges_that_cut_through_a_limit_keep_both_limits() -> None:
    """Terciles of conversation begin at 408 tokens: such a class has prompts under 400 ms and under 2 s."""
    (only,) = loads.of(always(1000, 50), Edges((408,), (94,)), BY_CLASS)
    assert only.slo == Slo(2.0, 0.1, 0.99, ((1024, 0.4),))


def test_the_nine_classes_of_conversation_hold_all_requests_and_their_mean() -> None:
    """Shares add up to 1, and the mean over classes is the mean of what was drawn: nothing is lost in a bucket."""
    found = loads.of(published.CONVERSATION, Edges(), BY_CLASS)
    assert [kind.name for kind in found] == ["SS", "SM", "SL", "MS", "MM", "ML", "LS", "LM", "LL"]
    assert sum(kind.share_ratio for kind in found) == pytest.approx(1.0)
    prompts, outputs = queueing.drawn(published.CONVERSATION)
    assert sum(kind.share_ratio * kind.load.prompt_tokens for kind in found) == pytest.approx(prompts.mean())
    assert sum(kind.share_ratio * kind.load.output_tokens for kind in found) == pytest.approx(outputs.mean())


def test_a_class_has_less_spread_than_the_whole_service() -> None:
    prompts, _ = queueing.drawn(published.CONVERSATION)
    whole = float(prompts.var() / prompts.mean() ** 2)
    assert all(kind.load.prompt_cv2_ratio < whole for kind in loads.of(published.CONVERSATION, Edges(), CHAT))


def test_a_bucket_that_nobody_falls_into_makes_no_class() -> None:
    found = loads.of(published.CODE, Edges((256, 1024), (5, 100_000)), CHAT)  # outputs are 6 to 1,899 tokens
    assert [kind.name for kind in found] == ["SM", "MM", "LM"]
