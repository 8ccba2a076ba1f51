"""The demo: a real control plane, a simulated fleet, a trace, a budget cut, a verdict (`make demo`).

Who calls it: a person, CI (`.ci/run`), and `rig.bench` for its figures. It plays the cluster's owner: everything that
it does to Capstan goes through kubectl, the API server and HTTP, as anybody's would.
"""
