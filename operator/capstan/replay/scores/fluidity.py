"""Fluidity of answers (Metron): which share of its token deadlines a request met, as far as three times can tell.

Who calls it: `scores.measure`. Must not know: classes, windows, energy.

The index (Agrawal et al. 2024, "Metron", algorithm 1): the first token is due at arrival + D_p, each further one D_d
after the deadline before it; time won is carried on as slack; a token that comes later than `D_d + slack` after the
one before it misses every deadline passed meanwhile, and the next deadlines count from its own time. The index is
deadlines met over deadlines passed. Here D_p and D_d are the TTFT and the TPOT limit of the request.

A run keeps first token, finish and longest gap of a request, not every token. So the index is given as two bounds
that hold whatever the gaps were (T: first to last token over n - 1 gaps, m: the longest, S: slack left by the first):

- late first token: it missed F = 1 + floor((TTFT - D_p) / D_d) deadlines; this much is exact.
- at most M = floor(T / D_d) deadlines were missed later, since each costs more than D_d of T; none where m <= D_d,
  and none where T (1 - D_d / m) <= S: with gaps of at most m the lateness peaks when k m reaches T.
- at least floor(X / D_d) + 1 were missed where X = T - (n - 1) D_d - S > 0: lateness adds up to X or more.

A request that never finished counts 0 in both: nobody was served to the end.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.runs import Floats, Ints

ROUNDING = 1e-9
"""Times are sums of step times: a share of a deadline that only rounding can make. It always widens the bounds."""


def bounds(
    ttft_s: Floats,
    decode_s: Floats,
    max_tbt_s: Floats,
    output_tokens: Ints,
    *,
    ttft_limit_s: Floats,
    tpot_limit_s: float,
) -> tuple[Floats, Floats]:
    """Return the lowest and the highest index that finished requests can have had, shapes `[request]`.

    Args:
        ttft_s: Time to first token.
        decode_s: First to last token.
        max_tbt_s: Longest gap; NaN where nobody measured it, then all of `decode_s` may have been one.
        output_tokens: Tokens of the answer.
        ttft_limit_s: Each request's D_p.
        tpot_limit_s: D_d.
    """
    on_time = ttft_s <= ttft_limit_s
    first = on_time.astype(np.float64)
    slack_s = np.where(on_time, ttft_limit_s - ttft_s, 0.0)
    missed_first = np.where(on_time, 0.0, 1.0 + np.floor((ttft_s - ttft_limit_s) / tpot_limit_s))
    gaps = output_tokens - 1.0
    most = _most_missed(decode_s, max_tbt_s, slack_s, tpot_limit_s)
    late_s = decode_s - gaps * tpot_limit_s - slack_s
    late = (late_s > ROUNDING * tpot_limit_s) & (gaps > 0)
    least = np.where(late, np.floor(late_s / tpot_limit_s - ROUNDING) + 1.0, 0.0)
    return (
        _share(first + np.maximum(gaps - most, 0.0), missed_first + most),
        _share(first + np.maximum(gaps - late, 0.0), missed_first + least),
    )


def _most_missed(decode_s: Floats, max_tbt_s: Floats, slack_s: Floats, tpot_limit_s: float) -> Floats:
    """Return how many deadlines after the first token may have been missed at most."""
    longest_s = np.where(np.isnan(max_tbt_s), decode_s, np.minimum(max_tbt_s, decode_s))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        peak_s = decode_s * (1.0 - tpot_limit_s / longest_s)
    fluent = (longest_s <= tpot_limit_s) | (peak_s <= slack_s - ROUNDING * tpot_limit_s)
    return np.where(fluent, 0.0, np.floor(decode_s / tpot_limit_s + ROUNDING))


def _share(met: Floats, missed: Floats) -> Floats:
    return met / (met + missed)
