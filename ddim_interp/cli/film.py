"""What a film looks like: the options of `morph`, which `batch` shares, and the order they make."""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import click

from ddim_interp.cli import options

if TYPE_CHECKING:
    from ddim_interp.files import StrPath
    from ddim_interp.production.film import FilmOrder

__all__ = ["film_options", "film_order", "film_parameters"]

_film_options = options.stack(
    click.option("--frames", default=60, help="Frames in all."),
    click.option("--fps", default=30.0, help="Frames a second."),
    options.blend_option,
    click.option(
        "--ease",
        default="linear",
        help="Speed along it: linear, smoothstep, ease-in-out, cubic-bezier(.3,0,.7,1) …",
    ),
    click.option("--per-leg", is_flag=True, help="Ease each way from keyframe to keyframe."),
    click.option(
        "--smooth/--straight", default=True, help="Round the corners at keyframes between."
    ),
    click.option(
        "--pace",
        type=click.Choice(options.PACES),
        default="uniform",
        help="perceptual: equal steps to the eye, for about twice the work.",
    ),
    click.option(
        "--metric",
        type=click.Choice(options.METRICS),
        help="What tells how much changes, to --pace perceptual and in --json: blurred colours, or "
        "LPIPS where it is installed.  [default: lab]",
    ),
    click.option(
        "--times",
        type=options.Numbers(float),
        metavar="T,T,…",
        help="When to be at each keyframe, in any unit, as in 0,2,3; a loop has one more.",
    ),
    click.option(
        "--hold",
        type=options.Numbers(int),
        default="0",
        metavar="N[,N…]",
        help="Frames more to rest at every keyframe, or at each.",
    ),
    click.option("--loop", is_flag=True, help="Return to the first keyframe."),
    click.option("--boomerang", is_flag=True, help="Go back the way it came."),
    options.raw_option,
    click.option(
        "--paste",
        is_flag=True,
        help="Put the square back into the full pictures, which must all have one size.",
    ),
    click.option(
        "--feather",
        type=click.FloatRange(0, 0.5),
        help="How soft an edge --paste gives it; a share of the square, 0 for a hard one.  "
        "[default: 0.125]",
    ),
    click.option(
        "--upscale",
        type=click.IntRange(0, 64),
        default=0,
        help="Enlarge frames by a whole factor; 0 chooses one that is pleasant to watch.",
    ),
    click.option(
        "--tolerance",
        type=click.FloatRange(0, 16),
        metavar="LEVELS",
        help="By how much, of 255, frames may differ so as to share work; 0 draws each by itself.  "
        "[default: 1; 2 if quick]",
    ),
    click.option(
        "--quick",
        is_flag=True,
        help="12 steps of adams, unless you say otherwise: pictures come back to some 37 dB "
        "instead of exactly, and the ends are made exact.",
    ),
    options.repair_option,
    click.option(
        "--realism",
        is_flag=True,
        help="Also say how real the middles are, beside the pictures at their ends.",
    ),
    options.plan_parameters(),
    options.noise_parameters(),
)


@cache
def film_parameters() -> dict[str, click.Parameter]:
    """The options by the names of their values."""

    @click.command()
    @_film_options
    def film() -> None: ...

    return {str(parameter.name): parameter for parameter in film.params}


def film_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a film, and hand their values over in one piece, as `film`."""
    names = tuple(film_parameters())

    @wraps(function)
    def command(*arguments: Any, **values: Any) -> Any:
        film = {name: values.pop(name) for name in names}
        return function(*arguments, film=film, **values)

    return _film_options(command)


def film_order(sources: "Sequence[str]", out: "StrPath", film: dict[str, Any]) -> "FilmOrder":
    """The film that the options ask for.

    Args:
        sources: Its keyframes.
        out: Where it goes.
        film: The options' values, by name.

    Raises:
        UsageError: Two options contradict.
        DdimInterpError: Latent files among the sources cannot be read, or do not go together.
    """
    from ddim_interp.model import Plan
    from ddim_interp.production.film import FilmOrder
    from ddim_interp.sources import plan_for
    from ddim_interp.style import QUICK_TOLERANCE, Style

    film = dict(film)
    if film["feather"] is not None and not film["paste"]:
        raise click.UsageError("--feather says how to --paste; give both.")
    wishes = {name: film.pop(name) for name in (*options.WALK, *options.NOISE)}
    quick, hold, upscale = film.pop("quick"), film.pop("hold"), film.pop("upscale")
    fps, repair, realism = film.pop("fps"), film.pop("repair"), film.pop("realism")
    options.check_noise(wishes, repair)
    if film["tolerance"] is None and quick:
        film["tolerance"] = QUICK_TOLERANCE
    style = Style(
        hold=hold[0] if len(hold) == 1 else hold,
        **{name: value for name, value in film.items() if value is not None},
    )
    plan = Plan.quick(**wishes) if quick else plan_for(sources, **wishes)
    return FilmOrder(sources, out, plan, style, fps, upscale or None, repair, realism)
