"""The command line: what `capstan` imports, and the messages of a wrong option."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from capstan import __main__ as entry
from capstan.app import operator, settings


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(operator.command, args)
    return done.exit_code, done.output


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = "import sys, capstan.__main__ as m; m.cli(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in entry.COMMANDS:
        assert f"  {name} " in done.stdout
    assert "'kopf'" not in done.stdout
    assert "'httpx'" not in done.stdout


def test_the_operator_imports_neither_numpy_nor_the_official_client() -> None:
    """They would double what it weighs (RSS of 180 MB is the goal).

    kopf imports the official client where it finds it, which is in a developer's environment and not in the image.
    """
    code = "import sys, json; sys.modules['kubernetes'] = None; import capstan.app.operator; "
    code += "print(json.dumps([name for name, module in sys.modules.items() if module is not None]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "kubernetes", "matplotlib", "grpc", "pynvml"} & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Missing option '--prometheus-url'"),
        (["--prometheus-url=http://p", "--periods=5"], "CLUSTER,POOL,INSTANCE, for example 1800,300,5"),
        (["--prometheus-url=http://p", "--periods=0,300,5"], "above zero"),
        (["--prometheus-url=http://p", "--listen=8080"], "is not HOST:PORT, for example 0.0.0.0:8080"),
        (["--prometheus-url=http://p", "--listen=:99999"], "is not HOST:PORT"),
        (["--prometheus-url=p:9090", "--kubeconfig=/dev/null"], "not a kubeconfig"),
    ],
    ids=["no-prometheus", "one-period", "a-period-of-zero", "a-port-alone", "a-port-too-high", "no-kubeconfig"],
)
def test_a_wrong_option_says_what_a_right_one_looks_like(args: list[str], message: str) -> None:
    code, output = run(*args)
    assert code != 0
    assert message in " ".join(output.split())


def test_an_unknown_command_is_a_usage_error() -> None:
    done = CliRunner().invoke(entry.cli, ["opreator"])
    assert done.exit_code == 2
    assert "opreator" in done.output


def test_addresses_and_periods_are_read() -> None:
    assert settings.ADDRESS.convert("[::1]:80", None, None) == settings.Address(host="::1", port=80)
    periods = settings.PERIODS.convert("60,30,2.5", None, None)
    decision = periods.decision(rate_window_s=15)
    assert (decision.cluster_period_s, decision.pool_period_s, decision.instance_period_s) == (60, 30, 2.5)
    assert decision.lookback_s == 60
