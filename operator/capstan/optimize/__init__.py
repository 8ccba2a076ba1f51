"""What to choose: replicas and clocks with the least joules that keep the SLO.

Who calls it: `decide`. Must not know: history, Kubernetes, who asked.
"""
