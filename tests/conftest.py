"""What every test needs: where the repository is, and whether the shared measurements are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from capstan.replay import traces
from rig.nvml import build

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("capstan", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("capstan")  # a busy machine fails nobody: speed is what `make bench` prints

CONTROL_PLANE = ("integration", "test_controlplane.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a file's tests on one core (what they share is made once), and all that use a control plane together."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        on_control_plane = item.path.parent.name in CONTROL_PLANE or item.path.name in CONTROL_PLANE
        item.add_marker(pytest.mark.xdist_group("control plane" if on_control_plane else str(item.path)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public traces and measurements beside the repository; skips where it is absent."""
    found = traces.shared_data(ROOT)
    if found is not None:
        return found
    pytest.skip("the public traces and measurements (shared/data beside the repository) are not on this machine")


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libnvidia-ml.so.1, built once; skips without a C compiler."""
    try:
        return build.build(tmp_path_factory.mktemp("nvml"))
    except build.NoCompilerError as missing:
        pytest.skip(str(missing))
