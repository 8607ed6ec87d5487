"""A mesh as a GLB file (glTF 2.0, Khronos): one node, positions, normals, colours at the vertices, and triangles.

glTF is right-handed and Y up and its front is +Z, as the volume is: nothing is turned. Colours at vertices are linear
there, so those of a picture (sRGB) are converted. The material is unlit by an extension, and where a reader does not
know that, fully rough and not of metal: what was painted is what is seen.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from torch import Tensor

from .mesh import Mesh, vertex_normals

MAGIC, VERSION, JSON, BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
FLOAT, UNSIGNED, ARRAY, ELEMENTS = 5126, 5125, 34962, 34963
"""Component types, and targets of a buffer view."""


def glb_of(mesh: Mesh) -> bytes:
    """The content of a .glb file."""
    parts = {
        "POSITION": mesh.vertices.float(),
        "NORMAL": vertex_normals(mesh.vertices, mesh.faces),
        "COLOR_0": linear_colours(mesh.colours.float()),
        "": mesh.faces.to(torch.int64),
    }
    binary, views, accessors = b"", [], []
    for number, (name, tensor) in enumerate(parts.items()):
        content = tensor.cpu().contiguous().numpy().astype("<f4" if name else "<u4").tobytes()
        views.append({
            "buffer": 0, "byteOffset": len(binary), "byteLength": len(content), "target": ARRAY if name else ELEMENTS,
        })  # fmt: skip
        accessors.append(_accessor(number, name, tensor))
        binary += content
    attributes = {name: number for number, name in enumerate(parts) if name}
    text = json.dumps(_document(views, accessors, attributes, len(binary)), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), JSON) + text + struct.pack("<II", len(binary), BINARY) + binary
    return struct.pack("<III", MAGIC, VERSION, 12 + len(chunks)) + chunks


def _accessor(number: int, name: str, tensor: Tensor) -> dict[str, Any]:
    if not name:
        return {"bufferView": number, "componentType": UNSIGNED, "count": tensor.numel(), "type": "SCALAR"}
    one = {"bufferView": number, "componentType": FLOAT, "count": len(tensor), "type": "VEC3"}
    if name == "POSITION":
        one |= {"min": tensor.amin(dim=0).tolist(), "max": tensor.amax(dim=0).tolist()}
    return one


def _document(views: list[Any], accessors: list[Any], attributes: dict[str, int], length: int) -> dict[str, Any]:
    rough = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    return {
        "asset": {"version": "2.0", "generator": "Mean-Shift Distillation"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(accessors) - 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": rough, "extensions": {"KHR_materials_unlit": {}}}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": length}],
    }


def linear_colours(colours: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear (IEC 61966-2-1)."""
    colours = colours.clamp(0, 1)
    return torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
