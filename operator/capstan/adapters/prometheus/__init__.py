"""Prometheus: a strict client, and the questions that one cycle asks."""
