"""What will come: load history in, the peak to provision for out.

Who calls it: `decide`. Must not know: where the history came from.
"""
