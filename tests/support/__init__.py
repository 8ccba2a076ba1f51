"""Builders, fakes and strategies that the tests share; one module per room."""
