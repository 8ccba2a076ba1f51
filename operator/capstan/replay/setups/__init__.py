"""The best set-up that never moves: tp, pp, replicas, engine flags, clock, prefill and decode together or apart.

Who calls it: `app.search`. Must not know: what a system decides live. Thousands of set-ups are screened in closed form
(`screen`, `apart`), the best are played in the world (`world`, `hunt`); only what was played is said to meet an SLO.
"""
