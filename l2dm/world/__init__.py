"""A world: a base model and all it was taught, as a folder on disk. ``World`` is in ``world.world``."""
