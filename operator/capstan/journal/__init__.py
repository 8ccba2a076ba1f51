"""A decision written down: values of the core as JSON, and the record's lines, written live and read by the replay.

Who calls it: `serving.recorder` writes lines, `replay.verify` reads them. Must not know: files, clocks, Kubernetes.
"""
