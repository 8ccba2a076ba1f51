"""A plant for power control (DESIGN 7.2): true AC watts at 25 ms, boards whose sensors lie, faults, two strategies.

Who calls it: `app.replay_kinds`, for a scenario file with a `Plant`. `physics` is compiled; everything that decides is
`powercap` itself. Requests are a load here, no latencies: those are the request-level world's (`replay.kernel`).
"""
