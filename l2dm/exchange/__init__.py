"""Out and in: the files in which other programs keep what a model was taught. Pure functions of tensors; what
they do to a world is in ``world``."""
