"""`capstan power`: the process that holds racks inside their budgets. No kopf, no Prometheus in its path.

Own Deployment, own Leases, own ServiceAccount: a bug in serving takes nothing from the breakers. Each module puts one
adapter behind one port of `power`; `process` lets them meet.
"""
