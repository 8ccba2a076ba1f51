"""How many more servers fit under a budget, from the domain's own watts: `capstan fit`, before anything is armed.

Who calls it: `app.fit`. Must not know: Kubernetes, requests. The law is `powercap.machine` itself, compiled, on the
path and with the delays of `replay.row`.
"""
