"""A row of servers over weeks, second by second: POLCA's experiment, and the planner that says how many servers fit.

Who calls it: `app.row`, `app.fit`. Must not know: files, Kubernetes. The law is `powercap.machine` itself, compiled.
"""
