"""Scores that need no network: plain functions, and the same behind the interface of `evaluate`."""
