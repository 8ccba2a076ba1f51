"""A past for the rig's Prometheus: what engines of an earlier time would have been scraped as, as TSDB blocks.

Who calls it: the demo, before Prometheus starts, so that Capstan finds the weeks that a rig has not lived. promtool
makes the blocks (`promtool tsdb create-blocks-from openmetrics`); a running Prometheus would refuse samples so old.
Only what a policy's past is read from is written: first tokens that were counted, and an empty queue.
"""

from __future__ import annotations

import bisect
import math
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FIRST_TOKENS = "vllm:time_to_first_token_seconds_count"
WAITING = "vllm:num_requests_waiting"
POD_SUFFIX = "past-00000"  # reads as one more pod of a Deployment: NAME-HASH-XXXXX


class PastError(RuntimeError):
    """Promtool did not take the samples; the message is its own last line."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """One engine of an earlier time: a pod of Deployment `workload`, and when requests came to it.

    Attributes:
        namespace, workload, model: Labels of its series.
        arrivals_s: Unix times, ascending.
    """

    namespace: str
    workload: str
    model: str
    arrivals_s: Sequence[float]

    @property
    def labels(self) -> str:
        """Return the labels of every series, as an exposition has them."""
        pod = f"{self.workload}-{POD_SUFFIX}"
        return f'{{namespace="{self.namespace}",pod="{pod}",engine="0",model_name="{self.model}"}}'


def repeated(arrivals_s: Sequence[float], *, start_s: float, cycle_s: float, times: int) -> list[float]:
    """Return arrivals of `times` earlier, like cycles.

    Args:
        arrivals_s: Of one cycle, from 0 to below `cycle_s`, ascending.
        start_s: Unix time at which the next cycle, which is not among them, begins.
        cycle_s: Length of a cycle.
        times: How many.
    """
    return [start_s - back * cycle_s + t_s for back in range(times, 0, -1) for t_s in arrivals_s]


def exposition(engines: Sequence[Earlier], *, since_s: float, until_s: float, scrape_s: float) -> Iterator[str]:
    """Yield the lines of an OpenMetrics file: every series scraped every `scrape_s`, from `since_s` to `until_s`.

    Series of one name follow each other, as the format wants it.

    Yields nothing at `until_s` and after it: Prometheus refuses to scrape anything older than its newest block.
    """
    moments_s = [since_s + i * scrape_s for i in range(math.ceil((until_s - since_s) / scrape_s))]
    for engine in engines:
        for t_s in moments_s:
            counted = bisect.bisect_right(engine.arrivals_s, t_s)
            yield f"{FIRST_TOKENS}{engine.labels} {counted} {t_s:.3f}\n"
    for engine in engines:
        for t_s in moments_s:
            yield f"{WAITING}{engine.labels} 0 {t_s:.3f}\n"
    yield "# EOF\n"


def load(promtool: Path, lines: Iterable[str], data: Path) -> None:
    """Make TSDB blocks of an exposition in Prometheus' data folder, before it starts.

    Raises:
        PastError: Promtool refused it.
    """
    data.mkdir(parents=True, exist_ok=True)
    file = data.parent / "past.om"
    with file.open("w", encoding="ascii") as out:
        out.writelines(lines)
    argv = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(file), str(data)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    file.unlink()
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PastError(f"promtool tsdb create-blocks-from: {said[-1] if said else 'failed without a word'}")
