"""Other people's programs asked the same questions as ours: NVIDIA's replay for speed, its configurator for latency.

Who calls it: `rig bench`, and a person (`python -m rig.crosscheck`). Each program lives in a venv of its
own under the cache folder and is started as a process; nothing of ours imports it, and all of it may be absent.
"""
