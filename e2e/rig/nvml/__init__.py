"""A GPU driver for machines without GPUs: `build` the library, `state` writes and reads what it shows."""
