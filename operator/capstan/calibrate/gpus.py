"""Data sheets of the GPUs that an estimate may ask for.

Who calls it: `calibrate.form`, `calibrate.shipped`. Figures are the makers': dense peaks without sparsity, link
bandwidth of one GPU in one direction. A GPU without `measured` has no row in shared/data: its attained shares of the
peaks are those of `borrows`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One board. Clocks in MHz, limits in watts, peaks in bytes/s and FLOP/s.

    Attributes:
        products: Values of the node label nvidia.com/gpu.product (AMD: amd.com/gpu.product-name).
        borrows: The measured GPU whose fitted parameters it uses; its own name where it was measured.
        stands_for: Short sentence on where the figures come from.
    """

    name: str
    products: tuple[str, ...]
    memory_bytes: float
    bytes_per_s: float
    bf16_flops_per_s: float
    fp8_flops_per_s: float
    link_bytes_per_s: float
    limit_w: float
    min_limit_w: float
    idle_w: float
    min_mhz: float
    max_mhz: float
    borrows: str
    stands_for: str

    @property
    def measured(self) -> bool:
        """Whether shared/data holds rows of this board."""
        return self.borrows == self.name


A100_40 = Gpu(
    "A100-40GB", ("NVIDIA-A100-SXM4-40GB",), 40 * GIB, 1.555e12, 312e12, 312e12, 300e9, 400.0, 100.0, 55.0,
    210.0, 1410.0, "A100-40GB", "NVIDIA A100 SXM4 40 GB: 1.555 TB/s, 312 TFLOP/s BF16, no FP8, 400 W, NVLink 3",
)  # fmt: skip
A100_80 = Gpu(
    "A100-80GB", ("NVIDIA-A100-SXM4-80GB",), 80 * GIB, 2.039e12, 312e12, 312e12, 300e9, 400.0, 100.0, 60.0,
    210.0, 1410.0, "A100-80GB", "NVIDIA A100 SXM4 80 GB: 2.039 TB/s, 312 TFLOP/s BF16, no FP8, 400 W, NVLink 3",
)  # fmt: skip
H100 = Gpu(
    "H100-SXM5-80GB", ("NVIDIA-H100-80GB-HBM3",), 80 * GIB, 3.35e12, 989e12, 1979e12, 450e9, 700.0, 200.0, 75.0,
    345.0, 1980.0, "H100-SXM5-80GB", "NVIDIA H100 SXM5 80 GB HBM3: 3.35 TB/s, 989 TFLOP/s BF16, 700 W, NVLink 4",
)  # fmt: skip
H200 = Gpu(
    "H200", ("NVIDIA-H200",), 141e9, 4.8e12, 989e12, 1979e12, 450e9, 700.0, 200.0, 75.0,
    345.0, 1980.0, "H100-SXM5-80GB", "NVIDIA H200 SXM 141 GB: 4.8 TB/s, 989 TFLOP/s BF16, 700 W",
)  # fmt: skip
B200 = Gpu(
    "B200", ("NVIDIA-B200",), 180e9, 8.0e12, 2250e12, 4500e12, 900e9, 1000.0, 200.0, 140.0,
    120.0, 1965.0, "H100-SXM5-80GB", "NVIDIA B200 SXM 180 GB: 8 TB/s, 2.25 PFLOP/s BF16, 1000 W, NVLink 5",
)  # fmt: skip
MI300X = Gpu(
    "MI300X", ("AMD_Instinct_MI300X_OAM",), 192e9, 5.3e12, 1307e12, 2615e12, 448e9, 750.0, 200.0, 140.0,
    132.0, 2100.0, "H100-SXM5-80GB", "AMD Instinct MI300X 192 GB: 5.3 TB/s, 1.307 PFLOP/s BF16, 750 W",
)  # fmt: skip

ALL = (A100_40, A100_80, H100, H200, B200, MI300X)

_SPELLINGS = {
    "A100": A100_80, "A10040": A100_40, "A10080": A100_80, "H100": H100, "H10080": H100,
    "H200": H200, "H200141": H200, "B200": B200, "B200180": B200, "MI300X": MI300X, "MI300X192": MI300X,
}  # fmt: skip
_NOISE = re.compile(r"NVIDIA|AMD|INSTINCT|GPU|SXM\d?|HBM\d?E?|OAM|DGX|GB|[^A-Z0-9]")


def find(spelled: str) -> Gpu:
    """Return the GPU that a person means ("h100", "A100-SXM4-80GB", a node's product label).

    Raises:
        ValueError: None is known by that name; the message lists those that are.
    """
    key = _NOISE.sub("", spelled.upper())
    if key not in _SPELLINGS:
        raise ValueError(f"--gpu: {spelled!r} is not known; use one of {', '.join(g.name for g in ALL)}")
    return _SPELLINGS[key]
