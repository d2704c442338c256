"""Something to look at while one waits: the same latents, decoded in few steps."""

from dataclasses import replace

from ddim_interp.model import Model, Plan
from ddim_interp.morph import Morph
from ddim_interp.style import QUICK_TOLERANCE

__all__ = ["sketch_of", "sketch_plan"]

_STEPS = 6


def sketch_of(film: Morph) -> Morph | None:
    """The same film in few steps, at a uniform pace; None if it has few itself."""
    plan = sketch_plan(film.model, film.plan)
    if plan == film.plan:
        return None
    # What the network said on the whole walk is of no use on this one.
    each = tuple(replace(keyframe, notes=None) for keyframe in film.keyframes)
    found = replace(film.found, each=each, plan=plan)
    style = replace(film.style, pace="uniform", tolerance=QUICK_TOLERANCE)
    return replace(film, found=found, style=style)


def sketch_plan(model: Model, plan: Plan, steps: int = _STEPS) -> Plan:
    """A plan of few steps that decodes the latents of another; that one, if there is none.

    Latents of a pair are decoded as single ones, which is near enough for a sketch.

    Args:
        model: The model.
        plan: What found the latents.
        steps: How many.

    Example:
        >>> from ddim_interp import GaussianDenoiser, NoiseSchedule
        >>> grey = Model(GaussianDenoiser(), NoiseSchedule.from_config({}), (1, 8, 8))
        >>> sketch_plan(grey, Plan()).steps, sketch_plan(grey, Plan(steps=4)).steps
        (6, 4)
    """
    few = Plan.quick(steps=steps, depth=plan.depth, dither=plan.dither)
    begins, would_begin = (each.walk(model.schedule)[0][0] for each in (plan, few))
    return few if plan.steps > steps and begins == would_begin else plan
