"""Inside the host's Python: ComfyUI as a library on the CPU, and the pack imported as the host imports it."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
from pathlib import Path

PACK = "msd_pack"  # any name: the pack must not rely on its folder's


def import_host(path: str) -> None:
    """Make `comfy` importable; its command line is parsed at import, hence the argv."""
    sys.path.insert(0, path)
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401
        import folder_paths
    finally:
        sys.argv = arguments
    folder_paths.set_temp_directory(tempfile.mkdtemp(prefix="msd-"))  # previews; not into the user's ComfyUI
    logging.getLogger().setLevel(logging.WARNING)


def import_pack() -> None:
    """As `nodes.load_custom_node` does it: by file, under a name of the loader's choice."""
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location(PACK, root / "__init__.py", submodule_search_locations=[str(root)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


if "MSD_HOST_TIER" in os.environ:
    sys.path.insert(0, str(Path(__file__).parent))  # tiny_models
    import_host(os.environ["COMFYUI_PATH"])
    import_pack()
