"""The serving simulator: one process that is kubelet, engine and exporter of every GPU node of the rig.

Who calls it: `rig.controlplane` starts it (`python -m rig.simulator`); Prometheus, the setters and `rig.load` talk to
it. Its physics are `capstan.replay.world`'s, run in real time; it must not know what Capstan decides or why: clocks
and limits reach it only through the NVML state file of a node, replicas only through the API server.
"""
