"""The same loop on virtual time: traces, a world of engines, scores and reports.

Who calls it: `app.replay`, and the rig's serving simulator, which drives the same world in real time.
Must not know: Kubernetes, Prometheus, adapters.
"""
