"""The live side of a ServingPolicy: observe once, decide, actuate, say what happened; then wait for a change.

Who calls it: `app.operator`, which gives it its ports. Must not know: which client answers behind a port, and any
rule of the decision itself (that is `decide`).
"""
