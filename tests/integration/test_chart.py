"""The chart against a real API server with the real Helm: lint, strict acceptance, install, rights, uninstall."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig import binaries
from support import rig

NAMESPACE = "capstan-system"
TENANT = "system:serviceaccount:tenant:author"


@pytest.fixture(scope="module")
def helm(api_server: Any, root: Path) -> Callable[..., str]:
    """Run the real Helm against the rig; returns stdout, fails with stderr."""
    program = binaries.find(["helm"], may_build=False)["helm"].path

    def run(*args: str, ok: bool = True) -> str:
        environment = {
            "KUBECONFIG": str(api_server.kubeconfig),
            "HOME": str(api_server.kubeconfig.parent),
            "PATH": "/usr/bin:/bin",
        }
        done = subprocess.run([program, *args], capture_output=True, text=True, env=environment, cwd=root, check=False)
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout if ok else done.stderr

    return run


@pytest.fixture(scope="module")
def kubectl(api_server: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real kubectl as the administrator."""
    program = binaries.find(["kubectl"], may_build=False)["kubectl"].path

    def run(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(program), f"--kubeconfig={api_server.kubeconfig}", *args]
        return subprocess.run(argv, capture_output=True, text=True, input=stdin, check=False)

    return run


@pytest.fixture(scope="module")
def rendered(helm: Callable[..., str]) -> list[dict[str, Any]]:
    """Every object of the chart with its default values."""
    text = helm("template", "capstan", "charts/capstan", "--namespace", NAMESPACE, "--kube-version", "1.35.4")
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module")
def installed(helm: Callable[..., str], kubectl: Callable[..., subprocess.CompletedProcess[str]]) -> Iterator[None]:
    """The chart, installed; its CRDs are already there from the session."""
    helm("install", "capstan", "charts/capstan", "--namespace", NAMESPACE, "--create-namespace", "--skip-crds")
    yield
    helm("uninstall", "capstan", "--namespace", NAMESPACE)
    left = kubectl(
        "get",
        "deploy,ds,sa,svc,secret,role,rolebinding,cm",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=capstan",
        "-o",
        "name",
    )
    assert left.stdout == "", "helm uninstall left objects behind"
    left = kubectl(
        "get",
        "clusterrole,clusterrolebinding,validatingadmissionpolicy",
        "-l",
        "app.kubernetes.io/name=capstan",
        "-o",
        "name",
    )
    assert left.stdout == "", "helm uninstall left cluster-scoped objects behind"


def test_helm_finds_nothing_to_complain_about(helm: Callable[..., str]) -> None:
    assert "0 chart(s) failed" in helm("lint", "charts/capstan", "--strict")


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("operator.prometheusUrl=ftp://x", "prometheusUrl"),
        ("operator.prometheusUrl=http://user:secret@host", "prometheusUrl"),
        ("power.tickSeconds=30", "tickSeconds"),
        ("operator.replicas=-1", "replicas"),
        ("power.shards=0", "shards"),
        ("power.prometheusUrl=http://user:secret@host", "prometheusUrl"),
        ("operatr.replicas=1", "operatr"),
    ],
    ids=[
        "not HTTP",
        "a password in a URL",
        "a tick that breaks P1",
        "negative replicas",
        "no shard",
        "a password in power's URL",
        "a misspelt field",
    ],
)
def test_wrong_values_are_refused_by_name(helm: Callable[..., str], setting: str, field: str) -> None:
    assert field in helm("template", "capstan", "charts/capstan", "--set", setting, ok=False)


def test_the_server_takes_every_object_strictly(
    rendered: list[dict[str, Any]], kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    kubectl("create", "namespace", NAMESPACE)
    for document in rendered:
        done = kubectl(
            "create", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document)
        )
        assert done.returncode == 0, f"{document['kind']} {document['metadata']['name']}: {done.stderr}"


def test_operator_and_power_meet_pod_security_restricted(
    rendered: list[dict[str, Any]], kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The server's own Pod Security admission is the judge."""
    kubectl("create", "namespace", "restricted")
    kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    kubectl("create", "sa", "capstan-operator", "-n", "restricted")
    kubectl("create", "sa", "capstan-power", "-n", "restricted")
    for document in rendered:
        if document["kind"] == "Deployment":
            template = document["spec"]["template"]
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "probe", "namespace": "restricted"},
                "spec": template["spec"],
            }
            done = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
            assert done.returncode == 0, f"{document['metadata']['name']}: {done.stderr}"


def test_only_the_setter_is_root_and_it_has_no_token(rendered: list[dict[str, Any]]) -> None:
    daemon = next(d for d in rendered if d["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    containers = {c["name"]: c for c in daemon["containers"]}
    assert containers["setter"]["securityContext"]["runAsUser"] == 0
    assert containers["agent"]["securityContext"]["runAsNonRoot"] is True
    assert containers["agent"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert daemon["automountServiceAccountToken"] is False
    setters, agents = ({mount["name"] for mount in containers[name]["volumeMounts"]} for name in ("setter", "agent"))
    assert setters == {"socket", "pod-resources", "setter-state"}
    assert setters & agents == {"socket"}, "root reads no file that the agent could write"
    assert [arg for arg in containers["setter"]["args"] if "-clock-" in arg or "-limit-" in arg] == [
        "--min-clock-mhz=210"
    ]


def test_an_admins_range_reaches_the_setter(helm: Callable[..., str]) -> None:
    bounds = {"maxClockMegahertz": 1900, "minPowerLimitWatts": 250, "maxPowerLimitWatts": 650}
    settings = [part for name, value in bounds.items() for part in ("--set", f"agent.{name}={value}")]
    text = helm("template", "capstan", "charts/capstan", *settings)
    for flag in ("--min-clock-mhz=210", "--max-clock-mhz=1900", "--min-limit-watts=250", "--max-limit-watts=650"):
        assert f"- {flag}\n" in text


def test_a_driver_that_no_runtime_injects_can_be_given(helm: Callable[..., str]) -> None:
    """Both containers read it, nobody else does; what the chart itself mounts stays."""
    given = {
        "extraEnv": [{"name": "LD_LIBRARY_PATH", "value": "/driver"}],
        "extraVolumes": [{"name": "driver", "hostPath": {"path": "/home/driver"}}],
        "extraVolumeMounts": [{"name": "driver", "mountPath": "/driver", "readOnly": True}],
    }
    settings = [part for name, value in given.items() for part in ("--set-json", f"agent.{name}={json.dumps(value)}")]
    plain, extended = (
        {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(text) if d and d["kind"] != "Secret"}
        for text in (helm("template", "c", "charts/capstan", *more) for more in ((), settings))
    )
    pod = plain["DaemonSet", "capstan-agent"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        container["env"] += given["extraEnv"]
        container["volumeMounts"] += given["extraVolumeMounts"]
    pod["volumes"] += given["extraVolumes"]
    assert extended == plain


def test_power_has_a_standby_that_no_drain_takes_with_it(rendered: list[dict[str, Any]]) -> None:
    power = next(d for d in rendered if d["kind"] == "Deployment" and d["metadata"]["name"] == "capstan-power")
    assert power["spec"]["replicas"] == 2
    assert power["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert power["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    assert power["spec"]["template"]["spec"]["priorityClassName"] == "system-cluster-critical"
    budget = next(d for d in rendered if d["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["selector"] == power["spec"]["selector"]


@pytest.mark.parametrize(("shards", "names"), [(1, ["capstan-power"]), (2, ["capstan-power-0", "capstan-power-1"])])
def test_power_may_take_its_own_leases_and_no_other(helm: Callable[..., str], shards: int, names: list[str]) -> None:
    text = helm("template", "capstan", "charts/capstan", "--set", f"power.shards={shards}")
    role = next(d for d in yaml.safe_load_all(text) if d and d["metadata"]["name"] == "capstan-power-lease")
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, names]


def test_the_rules_come_as_an_object_where_they_are_wanted(helm: Callable[..., str], root: Path) -> None:
    text = helm("template", "capstan", "charts/capstan", "--set", "rules.enabled=true")
    rule = next(d for d in yaml.safe_load_all(text) if d and d["kind"] == "PrometheusRule")
    plain = yaml.safe_load((root / "charts" / "capstan" / "rules" / "power.yaml").read_text(encoding="utf-8"))
    assert rule["spec"] == plain


def test_no_rule_is_a_wildcard_or_a_way_up(rendered: list[dict[str, Any]]) -> None:
    forbidden_resources = {"*", "secrets", "pods/exec", "nodes/proxy", "clusterroles", "rolebindings"}
    forbidden_verbs = {"*", "escalate", "bind", "impersonate"}
    for document in rendered:
        for rule in document.get("rules") or []:
            assert forbidden_resources.isdisjoint(rule["resources"]), document["metadata"]["name"]
            assert forbidden_verbs.isdisjoint(rule["verbs"]), document["metadata"]["name"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("who", "verb", "what", "answer"),
    [
        ("capstan-operator", "patch", "deployments.apps", "yes"),
        ("capstan-operator", "delete", "deployments.apps", "no"),
        ("capstan-operator", "get", "secrets", "no"),
        ("capstan-operator", "patch", "powerdomains.capstan.dev", "no"),
        ("capstan-operator", "patch", "nodecaps.capstan.dev", "yes"),
        ("capstan-power", "patch", "nodecaps.capstan.dev", "yes"),
        ("capstan-power", "patch", "deployments.apps", "no"),
        ("capstan-power", "patch", "servingpolicies.capstan.dev", "no"),
        ("capstan-agent", "watch", "nodecaps.capstan.dev", "yes"),
        ("capstan-agent", "patch", "nodecaps.capstan.dev", "no"),
        ("capstan-agent", "list", "pods", "no"),
    ],
)
def test_rights_are_what_each_process_needs(
    kubectl: Callable[..., subprocess.CompletedProcess[str]], who: str, verb: str, what: str, answer: str
) -> None:
    def can_i() -> str:
        return kubectl(
            "auth", "can-i", verb, what, "-A", f"--as=system:serviceaccount:{NAMESPACE}:{who}"
        ).stdout.strip()

    rig.eventually(lambda: can_i() == answer, f"the answer {answer}")


@pytest.mark.usefixtures("installed")
def test_a_tenant_writes_no_template_that_it_could_not_run(
    root: Path, kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Promise P2. With the right to create Deployments the same policy is accepted."""
    kubectl("create", "namespace", "tenant")
    kubectl("create", "role", "author", "-n", "tenant", "--verb=create,get", "--resource=servingpolicies.capstan.dev")
    kubectl("create", "rolebinding", "author", "-n", "tenant", "--role=author", "--serviceaccount=tenant:author")
    policy = yaml.safe_load((root / "policies" / "serving-chat.yaml").read_text(encoding="utf-8"))
    policy["metadata"]["namespace"] = "tenant"

    def create() -> subprocess.CompletedProcess[str]:
        return kubectl("create", "--dry-run=server", "-f", "-", f"--as={TENANT}", stdin=json.dumps(policy))

    # The server takes a new policy, role or binding into use a moment after it has stored it.
    refusal = "spec.engine: you may not create Deployments in this namespace"
    rig.eventually(lambda: refusal in create().stderr, "the tenancy policy in force")
    kubectl("create", "role", "runner", "-n", "tenant", "--verb=create", "--resource=deployments.apps")
    kubectl("create", "rolebinding", "runner", "-n", "tenant", "--role=runner", "--serviceaccount=tenant:author")
    rig.eventually(lambda: create().returncode == 0, "the tenant's new right in force")


@pytest.mark.usefixtures("installed")
def test_an_editor_of_a_namespace_writes_no_power_kind(
    kubectl: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    kubectl("create", "namespace", "tenant-two")
    kubectl(
        "create",
        "rolebinding",
        "editor",
        "-n",
        "tenant-two",
        "--clusterrole=edit",
        "--serviceaccount=tenant-two:editor",
    )

    def can_create(kind: str) -> str:
        argv = ("auth", "can-i", "create", f"{kind}.capstan.dev", "-n", "tenant-two")
        return kubectl(*argv, "--as=system:serviceaccount:tenant-two:editor").stdout.strip()

    rig.eventually(lambda: can_create("servingpolicies") == "yes", "the editor's right to write policies")
    for kind in ("powerdomains", "servingprofiles", "nodecaps"):
        assert can_create(kind) == "no", kind
