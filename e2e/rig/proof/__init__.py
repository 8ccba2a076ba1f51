"""The live proof of power domains: real processes on a real API server, simulated watts, promise P1 watched throughout.

A row of two racks; on every node a real agent and a real setter over a fake driver; two replicas of `capstan power`.
`plant` closes the loop: what the boards draw under the clocks and limits that the setters wrote. `monitor` watches true
watts ten times a second. `scenarios` and `faults` say what happens; `python -m rig power proof` prints the table.
"""
