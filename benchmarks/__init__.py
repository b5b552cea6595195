"""Benchmarks: they produce the numbers in the README and docs."""
