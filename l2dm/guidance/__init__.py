"""Moving the latents while drawing, so that every concept of a prompt is there and none wears another's
looks.

One idea a file: each is a function of attention maps that gives a loss for every picture. ``attention`` takes
the maps.
"""
