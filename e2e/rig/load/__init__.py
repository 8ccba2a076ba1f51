"""The load driver: plays a list of requests as real HTTP to the engines of their policies, and writes what became.

Who calls it: the demo and the long runs (`python -m rig.load`). It is a client like any other: it knows pods from the
API server and engines from their answers, nothing from the simulator's inside. Open loop: a request goes out at its
time whether or not earlier ones are done, and its latency counts from that time (no coordinated omission).
"""
