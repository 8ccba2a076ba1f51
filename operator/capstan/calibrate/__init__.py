"""Physics from measurements: one global model of (LLM, GPU, tp, engine), its fit, and profiles for whoever asks.

Who calls it: `app.profile` (`capstan profile fit | estimate`), never anything that runs live. `model/` holds the
formulas that this room fits; here nothing decides, and nothing evaluates a formula of its own.
"""
