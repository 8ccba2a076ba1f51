"""What a run was worth: who kept its limits, joules, budgets, and how systems stand to each other (DESIGN 7.1).

Who calls it: `replay.play`, `replay.searches`, `replay.pages`, the rig's demo. Must not know: how a run was made.
"""
