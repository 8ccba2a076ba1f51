"""What the cross-checks are run on: the conversation hour or a trace of one's own, as columns; profiles of a folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from capstan.api import convert
from capstan.model.profile import Profile
from capstan.replay import traces
from capstan.replay.runs import Requests
from rig.crosscheck import venvs

ROOT = Path(__file__).resolve().parents[3]
CONVERSATION = "azure-llm-2023/AzureLLMInferenceTrace_conv.first_half.csv"


def conversation_hour() -> Requests:
    """Return the shared half of the conversation trace, played twice, one mean gap between the two.

    Raises:
        NotAvailable: The shared data is not on this machine.
    """
    data = traces.shared_data(ROOT)
    if data is None:
        raise venvs.NotAvailable("the public traces (shared/data beside the repository) are not on this machine")
    return traces.repeat(of_file(data / CONVERSATION), 2)


def of_file(path: Path) -> Requests:
    """Return the requests of a trace.

    Raises:
        traces.TraceError: It cannot be read.
    """
    return traces.read(path).requests


def profiles(folder: Path) -> tuple[Profile, ...]:
    """Return every ServingProfile of a folder of YAML streams.

    Raises:
        capstan.api.errors.Invalid: The field and the fix.
    """
    found = [document for path in sorted(folder.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]
    return tuple(convert.profile(d) for d in found if d and d.get("kind") == "ServingProfile")
