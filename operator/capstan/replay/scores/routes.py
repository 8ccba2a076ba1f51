"""Joules per request of each class of a run, and how odd its oddest five minutes were.

Who calls it: `pages`, `replay.engine` (`token_cost`). Must not know: pools. The sharing out is `model.routes`:
the sum over the classes is what the service's GPUs drew, idle watts included.

An odd window is not yet a fault: few requests at night share the same idle watts, and a new mix of lengths within a
class moves its joules, too. It says where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from capstan.model import oddity, routes
from capstan.model.profile import Profile
from capstan.model.routes import TokenCost, Use
from capstan.replay.runs import Floats, Requests, ServiceRun, ServiceSeries
from capstan.replay.scores import limits

BLOCK = 1 << 19
"""Requests counted at a time (as `scores.measure`)."""


@dataclass(frozen=True, slots=True)
class ClassEnergy:
    """One class. `odd_ratio` is the largest anomaly score of a window, of either sign, `odd_s` where that one begins.

    Both are None where no window could be judged (`oddity.MIN_PAST` windows of `oddity.MIN_REQUESTS` come first).
    """

    name: str
    requests: int
    request_j: float
    odd_ratio: float | None
    odd_s: float | None


def token_cost(profile: Profile, requests: Requests, series: ServiceSeries) -> TokenCost | None:
    """Return what tokens cost at the mean batch of a run; None where no request ran."""
    replicas, running = series.replicas_ready.sum(), series.running.sum()
    if not (replicas > 0 and running > 0 and len(requests)):
        return None
    held_tokens = float(requests.prompt_tokens.mean() + requests.output_tokens.mean() / 2)
    batch = min(max(float(running / replicas), 1.0), float(profile.max_num_seqs))
    return routes.token_cost(profile, batch=batch, sequence_tokens=held_tokens)


def of(service: ServiceRun) -> tuple[ClassEnergy, ...]:
    """Return the classes that finished a request, in the order of `limits.CLASSES`; none where costs are not known."""
    if service.token_cost is None:
        return ()
    windows = max(int(np.ceil(service.series.t_s[-1] / oddity.WINDOW_S)), 1) if len(service.series.t_s) else 1
    counted = _counted(service, windows)  # [figure, window, class]
    shares = routes.apportioned(service.energy.total_j, _uses(counted.sum(axis=1)), service.token_cost)
    by_window = _by_window(counted, _window_j(service.series, windows), service.token_cost)
    found = []
    for place, share in enumerate(shares):
        if share.request_j is not None:
            odd_ratio, odd_s = _oddest(by_window[:, place])
            found.append(ClassEnergy(share.route, share.requests, share.request_j, odd_ratio, odd_s))
    return tuple(found)


def _counted(service: ServiceRun, windows: int) -> Floats:
    """Return finished requests, their prompt tokens and their output tokens, shape `[figure, window, class]`.

    A request counts where it finished: what it cost before falls into the window before, a few seconds of 300.
    """
    outcomes, classes = service.outcomes, len(limits.CLASSES)
    found = np.zeros((3, windows * classes))
    for start in range(0, len(outcomes.requests), BLOCK):
        part = slice(start, start + BLOCK)
        done = np.isfinite(outcomes.finish_s[part])
        prompt, output = outcomes.requests.prompt_tokens[part][done], outcomes.requests.output_tokens[part][done]
        window = np.minimum((outcomes.finish_s[part][done] // oddity.WINDOW_S).astype(np.int64), windows - 1)
        place = np.maximum(window, 0) * classes + limits.class_codes(prompt, output)
        for row, weights in enumerate((None, prompt, output)):
            found[row] += np.bincount(place, weights, minlength=windows * classes)
    return found.reshape(3, windows, classes)


def _uses(counted: Floats) -> list[Use]:
    """Return a use per class, from figures of shape `[figure, class]`."""
    return [Use(n, int(r), p, o) for n, (r, p, o) in zip(limits.CLASSES, counted.T.tolist(), strict=True)]


def _by_window(counted: Floats, window_j: Floats, cost: TokenCost) -> Floats:
    """Return joules per request, shape `[window, class]`; NaN where too few finished to tell."""
    found = np.full(counted.shape[1:], np.nan)
    for window, energy_j in enumerate(window_j.tolist()):
        shares = routes.apportioned(energy_j, _uses(counted[:, window]), cost)
        for place, share in enumerate(shares):
            if share.requests >= oddity.MIN_REQUESTS and share.request_j is not None:
                found[window, place] = share.request_j
    return found


def _window_j(series: ServiceSeries, windows: int) -> Floats:
    """Return the GPUs' joules of each window, shape `[window]`; watts that nobody knows count as none."""
    joules = np.cumsum(np.nan_to_num(series.gpus_w) * np.diff(series.t_s, prepend=0.0))
    edges_s = oddity.WINDOW_S * np.arange(windows + 1)
    upto = np.interp(edges_s, np.concatenate([[0.0], series.t_s]), np.concatenate([[0.0], joules]))
    return np.asarray(np.maximum(np.diff(upto), 0.0))


def _oddest(request_j: Floats) -> tuple[float | None, float | None]:
    """Return the anomaly score of largest size among a class's windows, and when that window began."""
    scored = [(abs(ratio), ratio, start_s) for ratio, start_s in _scores(request_j)]
    if not scored:
        return None, None
    _, ratio, start_s = max(scored)
    return ratio, start_s


def _scores(request_j: Floats) -> Iterator[tuple[float, float]]:
    """Yield the score of each window against those before it, and when it began: nothing of the future is known."""
    past: list[float] = []
    for window, value in enumerate(request_j.tolist()):
        if np.isnan(value):
            continue
        ratio = oddity.anomaly_ratio(value, past)
        if ratio is not None:
            yield ratio, window * oddity.WINDOW_S
        past.append(value)
