"""Thin ComfyUI nodes around `msd_core`: one file a family. `host` is the only bridge to the host's models."""
