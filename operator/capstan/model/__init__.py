"""What is true: the frozen values that every room speaks, and the physics of an engine.

Who calls it: every other room. Must not know: Kubernetes, Prometheus, files, clocks.
"""
