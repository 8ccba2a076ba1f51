"""Capstan: latency objectives and power budgets of LLM serving in one decision."""

__version__ = "0.1.0"
