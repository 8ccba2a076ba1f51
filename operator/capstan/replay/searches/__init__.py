"""What is found with hindsight, by running the world many times: fixed fleets, the oracle, and the bound below all.

Who calls it: `replay.stage`, `replay.play`. Must not know: the engine; a search asks `trial.Evaluate`.
"""
