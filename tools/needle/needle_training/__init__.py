"""Trains the 7M-parameter retrieval model that @accel/needle ships. See ../README.md."""
