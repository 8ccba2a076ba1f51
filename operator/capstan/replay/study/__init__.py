"""What each knob does to energy and latency: clock, tensor parallelism, batch and class, as the planner's physics say.

Who calls it: `app.study`. Pure computing on `model` and `optimize`: no traces, no world, no files. Every figure is a
steady state of one replica (`model.steady`), so it says what a setting costs once it stands, never what a change costs.
"""
