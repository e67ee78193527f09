"""Benchmarks: the same concepts, prompts and seeds for every method, resumable, in parallel."""
