"""Measurements of the whole product; each writes JSON into ``results/`` with the settings that made it."""
