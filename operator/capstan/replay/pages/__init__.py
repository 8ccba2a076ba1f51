"""What people and programs read of a comparison: the terminal's tables, `report.html`, `report.json`.

Who calls it: `app.replay`, the rig's demo. Must not know: how a figure came about.
"""
