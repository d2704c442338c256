"""Imports point down, and each outside library has one door."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddim_interp"

# A module may import from its own row and the rows above it.
LAYERS = [
    {
        "as_mapping",
        "errors",
        "shapes",
        "watch",
        "keep",
        "memory",
        "pages",
        "allocator",
        "threads",
        "tf32",
        "user_cache",
    },
    {"files", "strict_json", "recipe", "tensors", "span"},
    {"c_library", "decoding"},
    {
        "schedule",
        "latents",
        "images",
        "sinks",
        "spool",
        "geometry",
        "interpolate",
        "easing",
        "pchip",
    },
    {
        "grid",
        "denoiser",
        "notes",
        "notebook",
        "path",
        "unet",
        "lucid",
        "adm",
        "networks",
        "autoencoder",
        "corners",
        "ends",
        "paste",
        "precision",
        "recorded",
        "compiled",
        "display",
        "footage",
    },
    {"solver"},
    {"trajectory", "pace", "learned"},
    {"perceptual", "speedometer", "refinement"},
    {"style"},
    {"model_folder", "model_configs"},
    {"model", "checks", "checkpoint", "hub", "convert", "resume", "kept_file", "latent_cache"},
    {"choice", "inversion", "latent_file", "sources", "portrait", "diagnosis", "progress"},
    {"keyframes", "scheduler", "network", "consistency", "repair", "realism"},
    {"rendering"},
    {"morph", "plots", "report", "sheet"},
    {"verbs"},
    {"pipeline", "custom"},
    {"bench"},
    {"production"},
    {"batch"},
    {"web"},
    {"cli", "__main__"},
]

DOORS = {
    "PIL": {"decoding", "images", "sinks", "display", "verbs", "sources", "bench"},
    "av": {"sinks"},
    "imageio": {"sinks"},
    "safetensors": {"tensors"},
    "huggingface_hub": {"hub"},
    "click": {"cli"},
    "tqdm": {"progress", "hub"},
    "jinja2": {"pages"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "ipywidgets": {"display"},
    "matplotlib": {"report", "plots"},
    "diffusers": {"autoencoder", "bench"},
    "lpips": {"learned"},
    "ray": {"batch"},
    "triton": {"unet"},
}

# The package's own face names everything, and the child process speaks to its parent.
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})
SPEAKS = PACKAGE / "convert" / "unpickle_child.py"


def room(path: Path) -> str:
    """The module or subpackage a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[tuple[str, str]]:
    """(library, room) for each import; the room is empty for outside libraries."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            library, *rest = name.split(".")
            found.add((library, rest[0] if library == "ddim_interp" and rest else ""))
    return found


def test_every_module_has_a_layer():
    known = set().union(*LAYERS)
    assert {room(path) for path in MODULES} <= known


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    row = next(i for i, layer in enumerate(LAYERS) if room(path) in layer)
    allowed = set().union(*LAYERS[: row + 1])
    wanted = {room for library, room in imports(path) if library == "ddim_interp"}
    assert wanted - allowed - {"__version__", ""} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_outside_library_has_one_door(path):
    for library, _ in imports(path):
        assert room(path) in DOORS.get(library, {room(path)}), f"{library} in {room(path)}"


def test_the_library_does_not_print():
    for path in set(MODULES) - {SPEAKS}:
        for node in ast.walk(ast.parse(path.read_text())):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            assert not is_print, f"{path}:{getattr(node, 'lineno', 0)} prints"


def test_only_known_libraries_are_imported():
    ours = {"ddim_interp", "torch", "numpy", *DOORS, *sys.stdlib_module_names}
    assert {library for path in MODULES for library, _ in imports(path)} <= ours
