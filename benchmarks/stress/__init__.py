"""What a world survives: kills, refusals of the file system, damaged files, manifests of strangers. See
``python -m benchmarks.stress --help``.
"""
