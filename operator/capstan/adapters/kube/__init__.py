"""The API server: a thin client on raw JSON, a list-and-watch cache, and a Lease."""
