"""What a command was told, checked once: addresses, periods, files. Every message names the option and the fix.

Who calls it: the commands of `app`. Each option is also an environment variable, `CAPSTAN_<COMMAND>_<OPTION>`.
"""

from __future__ import annotations

from pathlib import Path

import click
import pydantic

from capstan import decide
from capstan.app.address import ADDRESS, Address
from capstan.forecast import calendar

__all__ = ["ADDRESS", "PERIODS", "Address", "Operator", "Periods"]

MIN_INSTANCE_PERIOD_S = 0.5  # below this a cycle would start before Prometheus could have scraped anything new
RATE_WINDOW_S = 60.0  # four scrapes of 15 s, the fewest from which a rate is worth something


class Periods(pydantic.BaseModel, frozen=True):
    """The three periods of the decision, in seconds (DESIGN 4)."""

    cluster_s: float = pydantic.Field(default=1800.0, gt=0)
    pool_s: float = pydantic.Field(default=300.0, gt=0)
    instance_s: float = pydantic.Field(default=5.0, ge=MIN_INSTANCE_PERIOD_S)

    def decision(self, *, rate_window_s: float, day_s: float = calendar.DAY_S) -> decide.Settings:
        """Return the settings of the decision at these periods, for a load whose pattern repeats every `day_s`."""
        return decide.Settings(
            cluster_period_s=self.cluster_s,
            pool_period_s=self.pool_s,
            instance_period_s=self.instance_s,
            lookback_s=self.cluster_s,
            rate_window_s=rate_window_s,
            calendar=calendar.near(self.pool_s, day_s=day_s),
        )


class Operator(pydantic.BaseModel, frozen=True):
    """`capstan operator`."""

    kubeconfig: Path | None
    namespace: str
    identity: str
    prometheus_url: str
    prometheus_token_file: Path | None = None
    prometheus_ca_file: Path | None = None
    periods: Periods
    rate_window_s: float = RATE_WINDOW_S
    day_s: float = calendar.DAY_S
    listen: Address
    record: Path | None = None


class PeriodsType(click.ParamType[Periods]):
    """`CLUSTER,POOL,INSTANCE` in seconds."""

    name = "cluster,pool,instance"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Periods:
        """Parse, or say what periods look like."""
        if isinstance(value, Periods):
            return value
        try:
            cluster_s, pool_s, instance_s = (float(part) for part in str(value).split(","))
            return Periods(cluster_s=cluster_s, pool_s=pool_s, instance_s=instance_s)
        except ValueError:
            self.fail(
                f"{value!r} is not three periods in seconds above zero, the last at least {MIN_INSTANCE_PERIOD_S}: "
                "CLUSTER,POOL,INSTANCE, for example 1800,300,5",
                param,
                ctx,
            )


PERIODS = PeriodsType()
