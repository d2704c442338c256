"""A page to keep: the checks of a model in one HTML file. A door of Matplotlib.

The file needs nothing: no script, no font, no network. A content security policy in it forbids all
of them, so that a file name that looks like markup stays a name, whoever wrote it.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from io import StringIO
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ddim_interp import __version__
from ddim_interp.checks import FAITHFUL_PSNR
from ddim_interp.consistency import Consistency
from ddim_interp.images import to_frames
from ddim_interp.pages import render
from ddim_interp.shapes import Frame
from ddim_interp.sinks.png import encode_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render_report"]

_EXACT = 110.0  # dB: where curves put equal pictures, a little above float32's own rounding


def render_report(document: Mapping[str, Any], found: Consistency) -> str:
    """The page, as HTML.

    Args:
        document: What `ddim-interp check --json` prints.
        found: The same as objects, with the pictures.
    """
    inversion = found.inversion
    strips = zip(
        to_frames(inversion.images),
        to_frames(inversion.decoded),
        to_frames(16 * (inversion.decoded - inversion.images)),
        to_frames(inversion.state.x / 3),
        strict=True,
    )
    pictures = [
        {**entry, "images": [_embedded(frame) for frame in strip]}
        for entry, strip in zip(document["pictures"], strips, strict=True)
    ]
    plots = [
        {"caption": "The round trip against its price.", "svg": _draw(_prices, found)},
        {"caption": "The same latent in S and in 2 S steps.", "svg": _draw(_doubling, found)},
        {"caption": "Power of each latent by spatial frequency.", "svg": _draw(_spectra, found)},
    ]
    if any(any(certificate.residuals) for certificate in found.certificates):
        plots.append({"caption": "What an inversion missed.", "svg": _draw(_residuals, found)})
    return render(
        "report.html",
        {
            **document,
            "version": __version__,
            "faithful": f"{FAITHFUL_PSNR:g}",
            "standing": document["self_interpolation"],
            "most": found.table[-1].steps,
            "pictures": pictures,
            "plots": plots,
        },
    )


def _embedded(frame: Frame) -> str:
    return "data:image/png;base64," + b64encode(encode_png(frame)).decode()


def _draw(plot: Callable[["Axes", Consistency], None], found: Consistency) -> str:
    """A plot as inline SVG: the same bytes for the same figures, and text as text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ddim_interp"}):
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        plot(axes, found)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _prices(axes: "Axes", found: Consistency) -> None:
    for method in dict.fromkeys(trip.method for trip in found.table):
        trips = [trip for trip in found.table if trip.method == method and not trip.trouble]
        psnr = [min(trip.fidelity.psnr, _EXACT) for trip in trips]
        axes.plot([trip.nfe for trip in trips], psnr, "o-", markersize=4, label=method)
    axes.axhline(FAITHFUL_PSNR, color="0.7", linewidth=1, linestyle=":")
    axes.set(xlabel="evaluations a picture", ylabel="PSNR, dB", xscale="log")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")


def _doubling(axes: "Axes", found: Consistency) -> None:
    steps = [each.steps for each in found.doublings]
    axes.plot(steps, [min(each.fidelity.psnr, _EXACT) for each in found.doublings], "o-")
    axes.set(xlabel="S", ylabel="PSNR, dB", xticks=steps)


def _spectra(axes: "Axes", found: Consistency) -> None:
    for certificate in found.certificates:
        bands = len(certificate.spectrum)
        frequency = [(band + 0.5) / bands / 2 for band in range(bands)]
        axes.plot(frequency, certificate.spectrum, linewidth=1)
    axes.axhline(1, color="0.4", linewidth=1, linestyle=":", label="white noise")
    axes.set(xlabel="cycles a pixel", ylabel="power", ylim=(0, None))


def _residuals(axes: "Axes", found: Consistency) -> None:
    shown = [c.residuals for c in found.certificates if any(c.residuals)]
    if max(map(len, shown), default=0) > 1:
        for residuals in shown:
            axes.plot(range(1, len(residuals) + 1), residuals, linewidth=1)
        axes.set(xlabel="step, from the picture on")
    else:
        axes.plot(range(1, len(shown) + 1), [sum(residuals) for residuals in shown], "o")
        axes.set(xlabel="picture", xticks=range(1, len(shown) + 1))
    axes.axhline(2 / 255, color="0.4", linewidth=1, linestyle=":", label="one 8-bit level")
    axes.set(ylabel="residual", yscale="log")
