"""The autoscalers people use today, each rebuilt from its published formula, as systems of the replay.

Who calls it: `replay.engine` runs what `registry` makes. Must not know: energy, the future, and each other; one
file per origin, pure formulas beside the small class that feeds them, all defaults in `defaults`.
"""
