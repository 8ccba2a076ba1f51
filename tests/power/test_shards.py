"""Shards: every domain and node with one of them, what is tied stays together, a process leads any of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capstan.power import ports, shards
from capstan.power.shards import Part
from capstan.power.tree import Tree
from support.power_loop import Site, domain

NAMES = [f"d{i}" for i in range(8)]


def site_of(domains: tuple[ports.Document, ...], racks: dict[str, str]) -> Part:
    """A site whose nodes carry these rack labels."""
    nodes = {name: ports.NodeSeen(name, {"rack": rack}, "127.0.0.1:9808") for name, rack in racks.items()}
    scene = ports.Scene(domains, nodes=nodes)
    return Part(scene, Tree().read(scene), frozenset(nodes), frozenset(), {})


@given(
    parents=st.lists(st.one_of(st.none(), st.sampled_from([*NAMES, "gone"])), min_size=8, max_size=8),
    racks=st.lists(st.sampled_from([*NAMES, "none"]), min_size=12, max_size=12),
    count=st.integers(1, 5),
)
def test_every_domain_and_node_is_in_one_part_and_what_is_tied_stays_together(
    parents: list[str | None], racks: list[str], count: int
) -> None:
    """Any parents, circles and missing ones too."""
    domains = tuple(
        domain(name, nodeSelector={"matchLabels": {"rack": name}}, parentName=parent)
        for name, parent in zip(NAMES, parents, strict=True)
        if parent != name
    )
    site = site_of(domains, {f"n{i}": rack for i, rack in enumerate(racks)})
    parts = shards.split(site, count)
    assert sorted(d.name for part in parts for d in part.declared) == sorted(d.name for d in site.declared)
    assert sorted(node for part in parts for node in part.nodes) == sorted(site.nodes)
    at = {d.name: number for number, part in enumerate(parts) for d in part.declared}
    for declared in site.declared:
        assert set(declared.nodes) <= parts[at[declared.name]].nodes
        parent = declared.parsed.spec.parent_name
        assert parent not in at or at[parent] == at[declared.name]


def test_two_feeds_of_one_server_are_led_together() -> None:
    """Their caps are joined on that server, so one process must know both."""
    feeds = tuple(domain(f"feed-{i}", type="Feed", nodeSelector={"matchLabels": {"rack": "7"}}) for i in range(12))
    parts = shards.split(site_of(feeds, {"n0": "7"}), 4)
    assert sorted(len(part.declared) for part in parts) == [0, 0, 0, 12]


def test_many_racks_spread() -> None:
    racks = tuple(domain(f"rack-{i}", nodeSelector={"matchLabels": {"rack": str(i)}}) for i in range(100))
    parts = shards.split(site_of(racks, {}), 4)
    assert all(10 <= len(part.declared) <= 40 for part in parts)


async def test_two_processes_that_lead_a_shard_each_hold_all_racks_and_stand_by_for_one_another() -> None:
    """rack-7 and rack-8 hash to different shards of three; the second dies, and the first keeps its nodes' leases."""
    racks = [domain(name, nodeSelector={"matchLabels": {"rack": name}}) for name in ("rack-7", "rack-8")]
    site = Site(*racks)
    nodes = {
        f"gpu-{i}": ports.NodeSeen(f"gpu-{i}", {"rack": "rack-7" if i < 2 else "rack-8"}, f"127.0.0.{i + 1}:9808")
        for i in range(4)
    }
    object.__setattr__(site.api.scene_, "nodes", nodes)
    one, other = site.another(shards=3), site.another(shards=3)
    leads = {number: part for number, part in enumerate(shards.split(one._whole(), 3)) if part.declared}
    assert len(leads) == 2, "choose other names: these two share a shard"
    for process, shard in zip((one, other), leads, strict=True):
        process.lead(shard, 3)
    for _ in range(3):
        await site.power_of(one, other)
    assert set(site.api.caps) == set(nodes)
    for _ in range(8):
        await site.power_of(one)
        assert site.fleet.leased() == set(nodes)


async def test_a_server_that_moves_between_shards_is_taken_over_with_its_number() -> None:
    """Its NodeCap has the epoch of another Lease, higher than ours; ours goes on from there, and is not refused."""
    racks = [domain(name, nodeSelector={"matchLabels": {"rack": name}}) for name in ("rack-7", "rack-8")]
    site = Site(*racks)
    nodes = {
        f"gpu-{i}": ports.NodeSeen(f"gpu-{i}", {"rack": "rack-7" if i < 2 else "rack-8"}, f"127.0.0.{i + 1}:9808")
        for i in range(4)
    }
    object.__setattr__(site.api.scene_, "nodes", nodes)
    one, other = site.another(shards=3), site.another(shards=3)
    shard_of = {part.declared[0].name: n for n, part in enumerate(shards.split(one._whole(), 3)) if part.declared}
    one.lead(shard_of["rack-7"], 3)
    other.lead(shard_of["rack-8"], 9)
    for _ in range(3):
        await site.power_of(one, other)
    moved = {**nodes, "gpu-3": ports.NodeSeen("gpu-3", {"rack": "rack-7"}, "127.0.0.4:9808")}
    object.__setattr__(site.api.scene_, "nodes", moved)
    site.draw(620)  # (12 x 620 + 1200) / 0.94 = 9,191 W of 12 kW with three servers: LowBase
    for _ in range(3):
        await site.power_of(one, other)
    assert site.fleet.agents["gpu-3"].epoch == 9
    assert site.fleet.agents["gpu-3"].caps.low_mhz == 1785
    assert site.fleet.leased() == set(nodes)
