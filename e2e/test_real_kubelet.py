"""Our image and chart on a real kubelet: pods, users, mounts, and which board gets which cap. About 4 minutes.

It needs root and `../shared/tier3` beside the repository, and skips without them; the first start builds a kubelet. The
tests tell one story, in their order: installed, shadowed, armed at full load, disturbed, released.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from capstan.powercap import domains
from rig.nvml.state import Caps
from rig.realnode import cluster, scene
from rig.realnode.site import FULL, QUIET, STOCK, Site

START_S = 3600  # a first build of the kubelet and of the image, and the chart's start
TEST_S = 600
OURS = (("operator", "operator"), ("power", "power"), ("agent", "agent"), ("agent", "setter"))
SYS_ADMIN = 1 << 21  # linux/capability.h
DEEP_MHZ = int(domains.Caps().low_deep_mhz)  # the domain names no caps of its own
PLAN_MHZ = 1200
CALM_S = 240  # a node that was silent for 5 s counts at its worst; levels above LowDeep are left by their dwells
SOON_S = 10  # a tick, a lease, and the machine's ten seconds for a cap to show itself

pytestmark = pytest.mark.timeout(TEST_S)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The node with Capstan on it, two engines Ready, the rack in mode Advise."""
    try:
        cluster.check()
    except cluster.NotHereError as missing:
        pytest.skip(str(missing))
    with cluster.Cluster() as node, Site(node) as made:
        for policy in scene.GPUS_OF:
            ready = ("--for=condition=Ready", "pod", f"--selector=capstan.dev/policy={policy}", "--timeout=60s")
            made.wait(lambda policy=policy: bool(made.engines(policy)), f"a pod of {policy}")
            node.kubectl("wait", "-n", scene.TENANTS, *ready)
        yield made


def status(site: Site, component: str, container: str) -> dict[str, str]:
    """What the kernel says of a container's first process."""
    said = site.cluster.inside(scene.SYSTEM, site.pod(component), container, "print(open('/proc/1/status').read())")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in said.splitlines())}


def refused(site: Site, component: str, container: str, code: str) -> str:
    """The word of the error that some code in a container ends with."""
    tried = f"try:\n    {code}\nexcept OSError as error:\n    import errno; print(errno.errorcode[error.errno])\n"
    return site.cluster.inside(scene.SYSTEM, site.pod(component), container, tried).strip()


@pytest.mark.timeout(START_S)
def test_every_pod_of_the_chart_is_ready(site: Site) -> None:
    """Under its probes, its memory limit and its user; nothing was started twice."""
    for pod in site.pods(scene.SYSTEM):
        for container in pod["status"]["containerStatuses"]:
            assert container["ready"], (pod["metadata"]["name"], container["name"])
            assert container["restartCount"] == 0, (pod["metadata"]["name"], container["lastState"])
    assert len(site.pods(scene.SYSTEM)) == len({"operator", "agent"}) + 2, "power has a standby"


@pytest.mark.parametrize(("component", "container"), OURS)
def test_only_the_setter_is_root(site: Site, component: str, container: str) -> None:
    """As the kernel has it, not as the chart says it; the setter's one capability is what NVML's writes ask for."""
    kernel = status(site, component, container)
    users = set(kernel["Uid"].split())
    assert users == ({"0"} if container == "setter" else {"65532"})
    assert int(kernel["CapEff"], 16) == (SYS_ADMIN if container == "setter" else 0)
    assert kernel["NoNewPrivs"] == "1"
    assert kernel["Seccomp"] == "2", "a filter is in force"
    assert refused(site, component, container, "open('/opt/capstan/x', 'w')") == "EROFS"


@pytest.mark.parametrize(("component", "container"), [pair for pair in OURS if pair[1] != "setter"])
def test_nobody_else_sees_the_kubelets_socket(site: Site, component: str, container: str) -> None:
    """The folder is root's and in one container."""
    assert refused(site, component, container, "__import__('os').stat('/pod-resources')") == "ENOENT"
    assert refused(site, component, container, "__import__('os').stat('/var/lib/kubelet')") == "ENOENT"


def test_the_setter_has_no_token_and_no_network_socket(site: Site) -> None:
    """It shares its pod's network with the agent; it holds nothing there."""
    assert refused(site, "agent", "setter", "__import__('os').stat('/var/run/secrets/kubernetes.io')") == "ENOENT"
    code = (
        "import os, re; held = {os.readlink(f'/proc/1/fd/{n}') for n in os.listdir('/proc/1/fd')}; "
        "open_ = {line.split()[9] for kind in ('tcp', 'tcp6', 'udp', 'udp6') "
        "for line in open(f'/proc/net/{kind}').readlines()[1:]}; "
        "print(sorted(held & {f'socket:[{inode}]' for inode in open_}))"
    )
    assert site.cluster.inside(scene.SYSTEM, site.pod("agent"), "setter", code).strip() == "[]"


def test_the_setter_maps_every_board_to_the_pod_that_the_kubelet_gave_it_to(site: Site) -> None:
    """PodResources against what each container was told when it started."""
    told = {
        board: [{"namespace": scene.TENANTS, "name": site.engine(policy)}]
        for policy in scene.GPUS_OF
        for board in site.held(policy)
    }
    assert len(told) == sum(scene.GPUS_OF.values())
    assert site.ask_setter("devices") == {"ok": True, "devices": told}


def test_a_pod_that_ended_holds_no_board(site: Site) -> None:
    """Its object stays, and the kubelet lists it no more."""
    site.apply(scene.short_lived("once"))
    site.wait(lambda: len(site.mapped("once")) == 1, "its board under its name")
    site.wait(lambda: site.mapped("once") == set(), "no board under its name")
    assert site.cluster.read("pod", "-n", scene.TENANTS, "once")["status"]["phase"] == "Succeeded"


def test_a_shadowed_rack_touches_no_board(site: Site) -> None:
    """In Advise it says what it would do."""
    site.wait(lambda: site.condition("MembersComplete")[0] == "True", "the node's agent heard")
    site.plant.load(FULL)
    site.wait(lambda: "LowDeep" in site.condition("Capping")[2], "LowDeep advised")
    assert set(site.boards().values()) == {STOCK}


def deep(site: Site) -> dict[str, Caps]:
    """Wait for LowDeep and return it: the deep cap on batch's boards and on those that nobody holds, none on chat's."""
    high = site.held("chat")
    wanted = {uuid: STOCK if uuid in high else Caps(DEEP_MHZ, scene.BOARD_W) for uuid in scene.uuids()}
    site.wait(lambda: site.rests_at(wanted), f"LowDeep, without {sorted(high)}", timeout_s=CALM_S)
    return wanted


def test_caps_reach_exactly_the_boards_of_low_priority(site: Site) -> None:
    """Armed at full load; confirmed, since the boards' clocks show the caps."""
    site.plant.load(FULL)
    site.mode("Act")
    deep(site)
    assert site.condition("Armed")[0] == "True"
    site.wait(lambda: site.condition("ActuationConfirmed")[0] == "True", "every cap confirmed", timeout_s=SOON_S)


def test_the_energy_plan_of_a_pod_reaches_its_own_boards(site: Site) -> None:
    """The tighter of plan and cap: batch's four boards are planned below the cap, the free ones keep it."""
    site.scale("capstan-operator", 0)  # it would lift a plan of somebody else
    site.wait(lambda: not site.pods(scene.SYSTEM, "operator"), "no operator")
    wanted = deep(site) | dict.fromkeys(site.held("batch"), Caps(PLAN_MHZ, scene.BOARD_W))
    site.apply(scene.plan(site.engine("batch"), PLAN_MHZ), manager="capstan-serving")
    site.wait(lambda: site.rests_at(wanted), "the plan on the boards of its pod", timeout_s=SOON_S)
    site.scale("capstan-operator", 1)
    deep(site)


def test_a_kubelet_that_restarts_costs_no_cap(site: Site) -> None:
    """Its socket is a new one in the same folder: a pod that comes after is mapped, and no other board is touched."""
    deep(site)
    began_s = time.monotonic()
    site.cluster.restart_kubelet()
    replaced = site.engine("batch")
    site.cluster.kubectl("delete", "pod", "-n", scene.TENANTS, replaced, "--wait=false")
    site.wait(lambda: len(site.engines("batch")) == 1 and site.engine("batch") != replaced, "its heir alone")
    site.wait(lambda: len(site.mapped(site.engine("batch"))) == scene.GPUS_OF["batch"], "four boards under its name")
    assert site.changes(scene.uuids(), began_s) == []


def test_an_upgrade_of_power_touches_no_board(site: Site) -> None:
    """Both replicas are replaced, one after the other; somebody renews the node's lease all the while."""
    deep(site)
    began_s = time.monotonic()
    site.cluster.kubectl("rollout", "restart", "-n", scene.SYSTEM, "deployment/capstan-power")
    site.cluster.kubectl("rollout", "status", "-n", scene.SYSTEM, "deployment/capstan-power", "--timeout=90s")
    site.wait(lambda: len(site.pods(scene.SYSTEM, "power")) == 2, "the old ones gone")
    assert site.changes(scene.uuids(), began_s) == []


def test_an_upgrade_that_changes_nothing_replaces_no_pod(site: Site) -> None:
    """The generated key stays, above all: agents with another key would hear nobody."""
    before = {pod["metadata"]["uid"] for pod in site.pods(scene.SYSTEM)}
    key = site.cluster.read("secret", "-n", scene.SYSTEM, "capstan-agent-key")["data"]
    site.upgrade()
    assert {pod["metadata"]["uid"] for pod in site.pods(scene.SYSTEM)} == before
    assert site.cluster.read("secret", "-n", scene.SYSTEM, "capstan-agent-key")["data"] == key


def test_a_killed_setter_comes_back_and_loosens_nothing(site: Site) -> None:
    """The kubelet starts it again in the same pod, with the socket's folder and its memory as they were."""
    deep(site)
    began_s, low = time.monotonic(), set(scene.uuids()) - site.held("chat")
    site.kill("setter")
    site.wait(lambda: site.restarts("setter") == 1, "the setter started again")
    site.wait(lambda: site.answers(), "the new one's answer")
    deep(site)
    assert not any(change.loosens for change in site.changes(low, began_s))


def test_the_setter_goes_to_the_safe_setting_without_its_agent(site: Site) -> None:
    """Its watchdog, 3 s after the last word; the agent that comes back frees chat's boards again, and no others."""
    deep(site)
    high, safe = site.held("chat"), site.safe()
    began_s, low = time.monotonic(), set(scene.uuids()) - high
    site.kill("agent")
    site.wait(lambda: any(change.after == safe for change in site.changes(high, began_s)), f"{safe} on chat's boards")
    deep(site)
    assert not any(change.loosens for change in site.changes(low, began_s))


def test_an_agent_that_is_replaced_loosens_nothing(site: Site) -> None:
    """On a cordoned node, too: the new pod has no file of the old one, and finds what holds in its NodeCap."""
    deep(site)
    began_s, low = time.monotonic(), set(scene.uuids()) - site.held("chat")
    site.cluster.kubectl("cordon", cluster.NODE)
    site.cluster.kubectl("delete", "pod", "-n", scene.SYSTEM, site.pod("agent"))
    site.wait(lambda: site.answers(), "the new setter's answer")
    site.wait(lambda: bool(site.changes(site.held("chat"), began_s)), "the new agent acts: chat's boards join anew")
    deep(site)
    site.cluster.kubectl("uncordon", cluster.NODE)
    assert not any(change.loosens for change in site.changes(low, began_s))


def test_without_power_the_node_is_in_its_safe_setting(site: Site) -> None:
    """Both replicas gone: every board within its lease and a tick, chat's too; back when power is."""
    safe = site.safe()
    site.scale("capstan-power", 0)
    site.wait(lambda: not site.pods(scene.SYSTEM, "power"), "no power")
    site.wait(lambda: site.rests_at(dict.fromkeys(scene.uuids(), safe)), f"{safe} on every board", timeout_s=30)
    site.plant.load(QUIET)
    site.scale("capstan-power", 2)
    site.wait(lambda: all(site.boards()[uuid] == STOCK for uuid in site.held("chat")), "chat's boards released")


def test_release_gives_every_board_back(site: Site) -> None:
    """Mode Advise is the explicit release."""
    site.mode("Advise")
    site.wait(lambda: site.rests_at(dict.fromkeys(scene.uuids(), STOCK)), "every board at stock")


def test_the_agents_page_names_the_pods(site: Site) -> None:
    """What Prometheus scrapes, by the pod's own address."""
    for policy, gpus in scene.GPUS_OF.items():
        assert len(site.mapped(site.engine(policy))) == gpus


def test_no_call_was_denied_and_nothing_was_raised(site: Site) -> None:
    """The rights that the chart gives are enough for all of the above."""
    for pod in site.pods(scene.SYSTEM):
        name = pod["metadata"]["name"]
        for line in site.cluster.kubectl("logs", "-n", scene.SYSTEM, name, "--all-containers").splitlines():
            said = json.loads(line)
            assert "Traceback" not in line, f"{name}: {line}"
            assert "forbidden" not in line.lower(), f"{name}: {said['message']}"
            assert "Denied" not in line, f"{name}: {said['message']}"


def test_memory_stays_below_the_limits(site: Site) -> None:
    """With room: a container at its limit is killed by the kernel."""
    for name, used_mib, limit_mib in site.memory():
        assert used_mib < 0.7 * limit_mib, f"{name}: {used_mib:.0f} of {limit_mib:.0f} MiB"
