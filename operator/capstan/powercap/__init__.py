"""Who gets watts: budgets over a tree of power domains, and the machine that keeps each inside its own.

Who calls it: `power` every second on live samples, `replay` in virtual time, `api.convert` for the records.
Must not know: agents, NVML, Kubernetes, clocks (time comes in as `now_s`).
"""
