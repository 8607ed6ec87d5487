"""The embedded default: captioned scenes, a small latent diffusion model that draws them, and a judge of its
pictures.
"""
