"""One plot a question. A door of matplotlib.

    trajectory(runs)      do walks of different steps lead to the same place?
    residuals(inversion)  how nearly was each step of an inversion solved?
    spectrum(latents)     are these latents white, as noise is?
    norms(latents)        do latents keep the length of noise, all along a path?
    pace(films)           is the change from frame to frame even?

Each takes what the toolkit returns and gives a `Plot`, which shows itself in a notebook and can be
saved. Nothing global of matplotlib is touched, and no window opens.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddim_interp.images import from_frames
from ddim_interp.inversion import Inversion
from ddim_interp.latents import latent_power, radial_spectrum
from ddim_interp.pace import distances, unevenness
from ddim_interp.perceptual import perceive
from ddim_interp.shapes import Frame, Latents
from ddim_interp.solver import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plot", "norms", "pace", "residuals", "spectrum", "trajectory"]


class Plot:
    """A figure that shows itself in a notebook.

    Args:
        x: What the horizontal axis is.
        y: What the vertical axis is.
        size: Width and height, in inches.

    Example:
        >>> plot = Plot("frame", "change")
        >>> _ = plot.axes.plot([1.0, 2.0])
        >>> plot._repr_png_()[1:4]
        b'PNG'
    """

    def __init__(self, x: str, y: str, size: tuple[float, float] = (6.4, 3.2)) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(size, layout="constrained")
        self.axes: Axes = self.figure.subplots()
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        self.axes.spines[["top", "right"]].set_visible(False)

    def save(self, path: Any) -> None:
        """Write the plot; the suffix chooses the format: .png .pdf .svg."""
        self._explain()
        self.figure.savefig(path, dpi=150)

    def _explain(self) -> None:
        if self.axes.get_legend_handles_labels()[0]:
            self.axes.legend(frameon=False)

    def _repr_png_(self) -> bytes:
        self._explain()
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def trajectory(runs: Mapping[str, Iterable[State]]) -> Plot:
    """Where walks lead, in the plane that shows most of them; noise on one side, picture on the
    other.

    The plane holds the two principal components of all states of the first picture of every run,
    each state scaled to x̄ / √(1 + σ̄²) = x, so that noise and pictures are of one size.

    Args:
        runs: For each walk its name and the states that `sample` yields.
    """
    plot = Plot("first principal component", "second", (6.4, 3.6))
    points = {
        name: torch.stack([s.x[0].flatten().cpu() for s in run]) for name, run in runs.items()
    }
    everything = torch.cat(list(points.values())).double()
    centre = everything.mean(0)
    plane = torch.linalg.svd(everything - centre, full_matrices=False).Vh[:2]
    for name, states in points.items():
        x, y = ((states.double() - centre) @ plane.T).T
        (line,) = plot.axes.plot(x, y, ".-", lw=1, ms=4, label=name)
        plot.axes.plot(x[-1:], y[-1:], "o", ms=8, mfc="none", color=line.get_color())
    return plot


def residuals(inversion: Inversion) -> Plot:
    """How far an inversion missed: step by step, one line a picture; or picture by picture, where a
    walk is corrected as a whole and not at each step. Steps undone by algebra have nothing to miss,
    and the plot says so.
    """
    missed = [certificate.residuals for certificate in inversion.certificates]
    if not any(map(any, missed)):
        plot = Plot("step, picture to noise", "residual")
        plot.axes.text(0.5, 0.5, "each step is undone by algebra", ha="center", va="center")
        plot.axes.set(xticks=[], yticks=[])
        return plot
    if max(map(len, missed)) > 1:
        plot = Plot("step, picture to noise", "residual")
        for number, steps in enumerate(missed):
            x = range(1, len(steps) + 1)
            plot.axes.plot(x, steps, ".-", lw=1, label=f"picture {number}")
    else:
        plot = Plot("picture", "residual of the walk")
        plot.axes.plot(range(len(missed)), [sum(steps) for steps in missed], "o")
        plot.axes.axhline(1 / 255, color="0.7", lw=0.8, label="half an 8-bit level")
    plot.axes.set_yscale("log")
    plot.axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    return plot


def spectrum(latents: Mapping[str, Latents]) -> Plot:
    """Power at each spatial frequency, averaged over directions, channels and latents.

    White noise has power 1 at every frequency. Power lacking at the fine end is the mark of an
    inversion with too few steps.

    Args:
        latents: For each line its name and its latents, (N, C, H, W).
    """
    plot = Plot("cycles per pixel", "power")
    for name, batch in latents.items():
        power = radial_spectrum(batch, bands=16).mean(0)
        middles = (torch.arange(len(power)) + 0.5) / (2 * len(power))
        plot.axes.plot(middles, power.cpu(), ".-", lw=1, label=name)
    plot.axes.axhline(1, color="0.7", lw=0.8)
    plot.axes.set_ylim(bottom=0)
    return plot


def norms(latents: Mapping[str, Latents]) -> Plot:
    """Length of each latent, as a share of √d, along a path; 1 is what the network has seen.

    Args:
        latents: For each path its name and the latents along it, (F, C, H, W).
    """
    plot = Plot("along the path", "|z| / √d")
    for name, batch in latents.items():
        u = torch.linspace(0, 1, len(batch))
        plot.axes.plot(u, latent_power(batch).sqrt().cpu(), ".-", lw=1, label=name)
    return plot


def pace(films: Mapping[str, Sequence[Frame]]) -> Plot:
    """How much changes from each frame to the next (ΔE*, `perceptual.perceive`); flat is even.

    Args:
        films: For each film its name and its frames.
    """
    plot = Plot("frame", "change since the last, ΔE*")
    for name, frames in films.items():
        steps = distances(perceive(from_frames(np.stack(frames))))
        label = f"{name}: largest {unevenness(steps):.2f} × mean"
        plot.axes.plot(range(1, len(steps) + 1), steps, ".-", lw=1, label=label)
    plot.axes.set_ylim(bottom=0)
    return plot
