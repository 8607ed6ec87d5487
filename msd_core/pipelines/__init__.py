"""Pipelines of the diffusers library as models: Stable Diffusion 1, 2, XL and 3, and Flux."""
