"""One node: caps under a lease, watts out, and the setter that alone writes to the driver.

Who calls it: `app.agent`. Must not know: the cluster, other nodes, which adapter is behind a port.
"""
