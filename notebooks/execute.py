"""Run the notebooks and keep their outputs, small enough to live beside the source.

    python notebooks/execute.py            # all of them
    python notebooks/execute.py 02 03      # only these

Outputs that exist as a still picture are kept as that alone: films and sliders need a live kernel,
stills look right on any page. What the outputs were made from, the cells and the model's weights,
is kept as a hash; a test compares.
"""

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import default

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER.parent / "ddim_interp/assets/fruit64/unet/diffusion_pytorch_model.safetensors"
STILLS = {"image/jpeg", "image/png"}


class ThisPython(AsyncKernelManager):
    """Starts the Python we are in, whatever kernels the machine knows."""

    @default("kernel_spec_manager")
    def _no_other_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def notebooks() -> list[Path]:
    """All notebooks, in order."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """Identity of what the outputs follow from: the cells of code, and the embedded model."""
    source = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return sha256(source.encode() + WEIGHTS.read_bytes()).hexdigest()


def shrink(notebook: nbformat.NotebookNode, settings: Mapping[str, str]) -> None:
    """Replace lines of the first cell of code, each of which must be there.

    Raises:
        ValueError: A line is not there.
    """
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = first.source.splitlines()
    for old, new in settings.items():
        lines[lines.index(old)] = new
    first.source = "\n".join(lines)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells in this very Python."""
    where = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        timeout=1200,
        resources=where,
    ).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Keep what a page can show; leave out progress bars, and what changes from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if STILLS & set(data):
                output["data"] = {kind: data[kind] for kind in data if kind in STILLS}
    notebook.metadata["ddim_interp"] = {"source": source_hash(notebook)}


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether this is a bar that has run its course."""
    return output.get("name") == "stderr" and "\r" in output.text


def main(wanted: list[str]) -> None:
    """Run what was asked for."""
    for path in notebooks():
        if not wanted or path.name.startswith(tuple(wanted)):
            notebook = nbformat.read(path, as_version=4)
            execute(notebook)
            tidy(notebook)
            nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
