"""How the mini base is made, from registries to weights: ``python -m mini_base``.

corpus -> scenes -> autoencoder -> clip -> unet -> package; each step resumes where it was stopped.
"""
