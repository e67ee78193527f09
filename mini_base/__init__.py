"""How the shipped mini base is made, from registries to weights: ``python -m mini_base``.

corpus -> scenes -> autoencoder -> clip -> unet -> decoder -> card; each step resumes where it was stopped.
"""
