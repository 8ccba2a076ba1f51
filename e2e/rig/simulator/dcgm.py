"""What dcgm-exporter says of the fleet, all nodes on one page.

Names, units and labels: ecosystem fact sheet, section 1.3 (exporter 4.6 with `--kubernetes`; label `hostname` in
lower case). A GPU without a pod has empty `namespace`, `pod` and `container`, as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rig.simulator import exposition
from rig.simulator.node import GpuId, GpuMeter
from rig.simulator.pods import PodView

DRIVER_VERSION = "580.95.05"


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU as the exporter sees it."""

    node: str
    gpu_product: str
    gpu: GpuId
    meter: GpuMeter
    pod: PodView | None

    def labels(self) -> str:
        """Return the exporter's label set."""
        pod = self.pod
        return exposition.labels(
            {
                "gpu": str(self.gpu.index),
                "UUID": self.gpu.uuid,
                "pci_bus_id": self.gpu.pci_bus_id,
                "device": f"nvidia{self.gpu.index}",
                "modelName": self.gpu_product.replace("-", " "),
                "hostname": self.node,
                "DCGM_FI_DRIVER_VERSION": DRIVER_VERSION,
                "container": pod.container if pod else "",
                "namespace": pod.namespace if pod else "",
                "pod": pod.name if pod else "",
            }
        )


def lines(rows: Iterable[GpuRow]) -> Iterator[str]:
    """Yield the page: watts, MHz, millijoules since start, percent busy."""
    labelled = [(row.labels(), row.meter) for row in rows]
    for name, kind, text, samples in (
        ("SM_CLOCK", "gauge", "SM clock frequency (in MHz).", [(p, round(m.sm_clock_mhz)) for p, m in labelled]),
        ("POWER_USAGE", "gauge", "Power draw (in W).", [(p, round(m.power_w, 3)) for p, m in labelled]),
        (
            "TOTAL_ENERGY_CONSUMPTION",
            "counter",
            "Total energy consumption since boot (in mJ).",
            [(p, round(m.energy_j * 1000)) for p, m in labelled],
        ),
        ("GPU_UTIL", "gauge", "GPU utilization (in %).", [(p, 100 * m.busy) for p, m in labelled]),
    ):
        yield from exposition.header(f"DCGM_FI_DEV_{name}", kind, text)
        yield from (f"DCGM_FI_DEV_{name}{{{pairs}}} {value}" for pairs, value in samples)
