"""The world's dialects: Kubernetes, Prometheus, NVML, exposition. Each adapter parses and translates errors, no more.

Who calls it: `app/`, which puts an adapter behind each port. Must not know: the rooms that use it.
"""
