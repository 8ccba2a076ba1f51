"""The rig: a real Kubernetes control plane, KWOK and Prometheus without a container engine or root.

Who calls it: `make rig`, `make demo`, `make e2e` and the integration tests. It may know everything about the machine
it runs on; the package `capstan` must not know that it exists.
"""
