"""NVML through nvidia-ml-py: reads for the agent, writes for the setter; every error one word."""

from capstan.adapters.nvml.device import Nvml, open_driver

__all__ = ["Nvml", "open_driver"]
