"""NVIDIA's real planner (`ai-dynamo`), in a venv of its own: how to get it, and its scale-ups in its own replay.

`python -m support.dynamo_planner` (with `PYTHONPATH=tests`) makes the venv: some 1.5 GB, never part of `make setup`.
Nothing that ships imports it; the test that asks it skips with one line where it is absent.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

VERSION = "1.4.2"  # 1.5 and later do not install from PyPI (facts/autoscalers.md section 4)
EXTRAS = (
    "scikit-learn", "scipy", "pandas", "grpcio", "protobuf", "plotly", "pmdarima", "prophet", "filterpy",
    "prometheus-api-client", "aiofiles",
)  # fmt: skip  # what its planner imports and its package does not ask for (same place)
TIMEOUT_S = 300.0
SCALED = re.compile(r"t=([0-9.]+)s \[agg\]: (\d+) -> (\d+) workers")


def folder() -> Path:
    """Return where its venv is, or will be. Not the venv of the speed comparison: the planner's extras change that."""
    return Path(os.environ.get("CAPSTAN_PEERS_CACHE") or "~/.cache/capstan").expanduser() / "dynamo-planner"


def present() -> bool:
    """Return whether the venv holds that version and the last of the extras."""
    packages = "lib/python3.*/site-packages"
    return all(
        any(folder().glob(f"{packages}/{name}")) for name in (f"ai_dynamo-{VERSION}.dist-info", "sklearn", "aiofiles")
    )


def install() -> None:
    """Make the venv unless it is there.

    Raises:
        subprocess.CalledProcessError: pip could not; its words are on the screen.
    """
    if present():
        return
    subprocess.run((sys.executable, "-m", "venv", "--clear", str(folder())), check=True)
    pip = (str(folder() / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, f"ai-dynamo=={VERSION}", *EXTRAS), check=True)


def scaled(
    into: Path, planner: dict[str, object], engine: dict[str, object], load: dict[str, float]
) -> list[tuple[float, int, int]]:
    """Return (time, from, to) of its scalings in its own replay, aggregated engines, one worker at the start.

    Args:
        into: An empty folder to run in; it writes reports where it stands.
        planner: Its planner's configuration.
        engine: Its mock engine's arguments.
        load: Options of its synthetic load.
    """
    config = into / "planner.json"
    config.write_text(json.dumps(planner), encoding="utf-8")
    options = [text for key, value in load.items() for text in (f"--{key}", f"{value:g}")]
    done = subprocess.run(
        (
            *(str(folder() / "bin" / "python"), "-m", "dynamo.replay", "--replay-mode", "offline", *options),
            *("--num-workers", "1", "--router-mode", "round_robin", "--planner-config", str(config)),
            *("--extra-engine-args", json.dumps(engine), "--report-json", str(into / "report.json")),
        ),
        cwd=into,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return [(float(t), int(old), int(new)) for t, old, new in SCALED.findall(done.stdout)]


if __name__ == "__main__":
    install()
