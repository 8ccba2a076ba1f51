"""Prometheus of the rig: its configuration from a few jobs, and its command line.

Any Prometheus from 2.28 on (http_sd) will do; the API is all that is used of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import httpx

from rig import components, process

RETENTION = "1d"  # the rig's Prometheus lives as long as the rig
SD_REFRESH_S = 2  # a pod that came Ready is scraped within two of these


@dataclass(frozen=True, slots=True)
class Job:
    """One scrape job: targets of an HTTP service discovery, or fixed ones, or both.

    `honor_labels` keeps `namespace`, `pod` … that an exporter says itself (dcgm-exporter), where Prometheus would
    rename them to `exported_…`.
    """

    name: str
    sd_url: str | None = None
    targets: tuple[str, ...] = ()
    honor_labels: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """What is scraped, and how often."""

    jobs: tuple[Job, ...] = ()
    scrape_s: int = 2

    def rendered(self) -> str:
        """Return the configuration file; JSON, which is YAML."""
        return json.dumps(
            {
                "global": {"scrape_interval": f"{self.scrape_s}s", "scrape_timeout": f"{self.scrape_s}s"},
                "scrape_configs": [_scrape_config(job) for job in self.jobs],
            },
            indent=1,
        )


def data_folder(folder: Path) -> Path:
    """Return where the Prometheus of a supervisor's folder keeps its data: blocks may be put there before it starts."""
    return folder / "prometheus" / "data"


def start(supervisor: process.Supervisor, program: Path, config: Config) -> str:
    """Start Prometheus on a free port with its data under the supervisor's folder, and return its URL."""
    data = data_folder(supervisor.folder)
    home = data.parent
    home.mkdir(exist_ok=True)
    file = home / "prometheus.yml"
    file.write_text(config.rendered())
    (port,) = components.free_ports(1)
    argv = [
        str(program),
        f"--config.file={file}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    supervisor.start("prometheus", argv, env=components.GO_ENV)
    return f"http://127.0.0.1:{port}"


def ready(url: str) -> bool:
    """Return whether it answers queries."""
    try:
        return httpx.get(f"{url}/-/ready", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _scrape_config(job: Job) -> dict[str, object]:
    config: dict[str, object] = {"job_name": job.name, "honor_labels": job.honor_labels}
    if job.sd_url:
        config["http_sd_configs"] = [{"url": job.sd_url, "refresh_interval": f"{SD_REFRESH_S}s"}]
    if job.targets:
        config["static_configs"] = [{"targets": list(job.targets)}]
    return config
