"""Watts of all services of a run together, as steps over time.

Who calls it: `scores.score` (peak), `scores.tariff` (cost, carbon), `pages.plots`. Must not know: requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from capstan.replay.runs import Floats, ServiceSeries


def steps(series: Sequence[ServiceSeries]) -> tuple[Floats, Floats]:
    """Return (edges_s, gpus_w): between `edges_s[i]` and `edges_s[i + 1]` the services drew `gpus_w[i]` watts.

    A sample is the mean since the sample before; the first of all counts from 0, as does a service's own. After its
    last sample a service draws nothing that is known: NaN. Watts that are NaN stay NaN.

    Raises:
        ValueError: Samples run backwards.
    """
    for one in series:
        if np.any(np.diff(one.t_s) < 0):
            raise ValueError("samples of a service run backwards")
    known = [one for one in series if len(one.t_s)]
    if not known:
        return np.zeros(1), np.empty(0)
    edges_s = np.unique(np.concatenate([[0.0], *(one.t_s[one.t_s > 0] for one in known)]))
    total_w = np.zeros(len(edges_s) - 1)
    for one in known:
        at = np.searchsorted(one.t_s, edges_s[1:], side="left")
        total_w += np.append(one.gpus_w, np.nan)[at]
    return edges_s, total_w


def peak_w(series: Sequence[ServiceSeries]) -> float | None:
    """Return the highest known sum; None where none is known."""
    _, total_w = steps(series)
    known = total_w[np.isfinite(total_w)]
    return float(known.max()) if len(known) else None
