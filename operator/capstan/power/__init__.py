"""The live loop of power: agents' watts in, caps under a lease out, every second.

Who calls it: `app.power`. Must not know: Prometheus, kopf, SLOs, which adapter is behind a port.
"""
