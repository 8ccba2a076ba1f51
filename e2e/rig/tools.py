"""The programs that the rig runs: which version, how it is built from its Go module, and which others will do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GO_MODULES = Path(__file__).with_name("go")
Version = tuple[int, int, int]
Accept = Callable[[Version, Version], bool]


@dataclass(frozen=True, slots=True)
class Tool:
    """One program.

    Attributes:
        name: File name of the binary.
        module: Go module it comes from; its version in `go/<family>/go.mod` is the pin.
        module_version: That version.
        version: What the binary says of itself (Prometheus v0.315.0 calls itself 3.15.0).
        package: Main package.
        family: Folder under `go/`; tools of one family share modules and most of the compile time.
        ldflags: `-X` settings; without them a Kubernetes binary calls itself v0.0.0-master and kubectl and Helm
            cannot parse that.
        tags: Build tags.
        version_args: How it is asked for its version.
        accepts: Whether another version on PATH will do, given (found, pinned).
        minutes: Cold build on 2 cores, measured, downloads included.
    """

    name: str
    module: str
    module_version: str
    version: Version
    package: str
    family: str
    accepts: Accept
    minutes: float
    ldflags: str = ""
    tags: str = ""
    version_args: tuple[str, ...] = ("--version",)

    @property
    def go_folder(self) -> Path:
        """The wrapper module that pins it."""
        return GO_MODULES / self.family

    @property
    def release(self) -> str:
        """Its version in words: `v1.35.4`."""
        return "v" + ".".join(map(str, self.version))

    def digest(self) -> str:
        """Return a hash over everything that decides what a build gives: pinned modules and flags."""
        parts = [(self.go_folder / f).read_bytes() for f in ("go.mod", "go.sum")]
        parts.append(f"{self.package} {self.tags} {self.ldflags}".encode())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def parse_version(text: str) -> Version | None:
    """Return the first `x.y.z` in what a program printed."""
    found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def same_minor(found: Version, pinned: Version) -> bool:
    """Accept patch releases: flags, feature gates and APIs are those of a minor version."""
    return found[:2] == pinned[:2]


def near_minor(found: Version, pinned: Version) -> bool:
    """Accept one minor version either way: Kubernetes' version-skew policy for kubectl."""
    return found[0] == pinned[0] and abs(found[1] - pinned[1]) <= 1


def same_major(found: Version, pinned: Version) -> bool:
    """Accept any release of the same major version: Helm 3 and 4 differ in flags."""
    return found[0] == pinned[0]


def at_least(*lowest: int) -> Accept:
    """Accept everything from a version on."""
    return lambda found, _pinned: found >= lowest


def _kubernetes(name: str, *, accepts: Accept = same_minor, minutes: float) -> Tool:
    x = "-X k8s.io/component-base/version.git"
    return Tool(
        name=name,
        module="k8s.io/kubernetes",
        module_version="v1.35.4",
        version=(1, 35, 4),
        package=f"k8s.io/kubernetes/cmd/{name}",
        family="kubernetes",
        accepts=accepts,
        minutes=minutes,
        ldflags=f"{x}Version=v1.35.4 {x}Major=1 {x}Minor=35 -X k8s.io/client-go/pkg/version.gitVersion=v1.35.4",
        version_args=("version", "--client") if name == "kubectl" else ("--version",),
    )


def _prometheus(name: str, minutes: float) -> Tool:
    return Tool(
        name=name,
        module="github.com/prometheus/prometheus",
        module_version="v0.315.0",
        version=(3, 15, 0),
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        family="prometheus",
        accepts=at_least(2, 28, 0),  # http_sd; Debian 12 has 2.42
        minutes=minutes,
        ldflags="-X github.com/prometheus/common/version.Version=3.15.0",
        tags="netgo,remove_all_sd,enable_http_sd",
    )


# In the order of building: tools of one family follow each other, the dearest first.
TOOLS = {
    tool.name: tool
    for tool in (
        _kubernetes("kube-apiserver", minutes=6),
        _kubernetes("kube-controller-manager", minutes=1.5),
        _kubernetes("kube-scheduler", minutes=0.2),
        _kubernetes("kubectl", accepts=near_minor, minutes=0.5),
        Tool(
            name="etcd",
            module="go.etcd.io/etcd/server/v3",
            module_version="v3.6.16",
            version=(3, 6, 16),
            package="go.etcd.io/etcd/server/v3",
            family="etcd",
            accepts=at_least(3, 5, 0),
            minutes=1,
        ),
        Tool(
            name="kwok",
            module="sigs.k8s.io/kwok",
            module_version="v0.8.0",
            version=(0, 8, 0),
            package="sigs.k8s.io/kwok/cmd/kwok",
            family="kwok",
            accepts=same_minor,
            minutes=3,
        ),
        _prometheus("prometheus", minutes=4),
        _prometheus("promtool", minutes=2),
        Tool(
            name="helm",
            module="helm.sh/helm/v4",
            module_version="v4.3.1",
            version=(4, 3, 1),
            package="helm.sh/helm/v4/cmd/helm",
            family="helm",
            accepts=same_major,
            minutes=2,
            ldflags="-X helm.sh/helm/v4/internal/version.version=v4.3.1",
            version_args=("version", "--short"),
        ),
    )
}
