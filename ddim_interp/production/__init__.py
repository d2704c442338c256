"""How a wish becomes a file: what every command that makes something does in the same way.

    order ──check──▶ claim the output ──▶ load the model ──▶ make, halving batches until they fit
                                                              │
                                      work folder, if it should be possible to go on later

An order says what is to be made, in plain values: it can be compared, written down and sent to
another process. There is one kind for each command, in a module of its own. `produce` carries any
of them out; nothing here prints, and nothing parses options.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ddim_interp.files import StrPath, check_not_input, claim
from ddim_interp.keep import Keep, forget
from ddim_interp.keyframes import Keyframes
from ddim_interp.latent_cache import LatentCache, latent_cache_folder
from ddim_interp.memory import halve_until_it_fits
from ddim_interp.model import Model, Plan
from ddim_interp.pipeline import DDIMPipeline
from ddim_interp.precision import default_batch_size
from ddim_interp.resume import check_not_another, circumstances, drop_work, open_work
from ddim_interp.sources import path_of

__all__ = ["Attempt", "Order", "Product", "Say", "identity", "produce", "unsaid"]

Say = Callable[[str], None]
"""Takes a message for whoever waits."""


def unsaid(message: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to carry an order out: the means.

    Args:
        pipe: The model, loaded.
        batch_size: Pictures in the network at once.
        keep: Remembers the batches of work done, or does not.
        overwrite: Whether an existing output may be replaced.
        resume: Whether an output that is this very product needs no second making.
        say: Takes messages for the user.
    """

    pipe: DDIMPipeline
    batch_size: int
    keep: Keep = forget
    overwrite: bool = False
    resume: bool = False
    say: Say = unsaid

    def tell(self, found: Keyframes) -> None:
        """Say which solvers were tried in vain, if any were, and which certificates do not hold."""
        for words in found.passed_over:
            self.say(f"{words}; {found.plan.describe()['solver']} was taken instead.")
        for keyframe in found.each:
            if keyframe.remark:
                self.say(f"{keyframe.source}: {keyframe.remark}.")

    def is_made(self, finished: Callable[[], bool]) -> bool:
        """Whether the output stands there already, and nobody asked to make it anew."""
        return self.resume and not self.overwrite and finished()


@dataclass(frozen=True)
class Product:
    """What came of an order.

    Args:
        model: What it was made with.
        nfe: Network evaluations, counted per picture.
        facts: What else there is to say of it, as JSON values.
        good: Whether every verdict on it is.
        head: Facts that every product has, first in `document`; `produce` fills them in.
        identity: All that decided it, as it was before the making; of what can be resumed only.
    """

    model: Model
    nfe: int
    facts: Mapping[str, Any]
    good: bool = True
    head: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """All that is known of it, as JSON values."""
        return {**self.head, **self.facts}


class Order(Protocol):
    """What is to be made."""

    @property
    def out(self) -> StrPath | None:
        """The output; None if nothing is written."""

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded; `replace` an existing output."""

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the output, besides the model, as JSON values."""

    def make(self, attempt: Attempt) -> Product:
        """Make it. What fails leaves nothing behind but the work kept."""


def produce(
    order: Order,
    load: Callable[[], DDIMPipeline],
    *,
    batch_size: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    anew: bool = False,
    allow_drift: bool = False,
    cache: bool = False,
    say: Say = unsaid,
) -> Product:
    """Carry an order out.

    Args:
        order: What to make.
        load: Gives the model; called when the order is known to make sense and the output is ours.
        batch_size: Pictures in the network at once, at first; by their size when not given.
        overwrite: Whether an existing output may be replaced.
        resume: Whether to keep what is done until the output is whole, and to go on from it.
        anew: Whether not to go on from what an earlier run kept, of whatever order it is.
        allow_drift: Whether to go on though versions, threads or batch size have changed.
        cache: Whether inversions are remembered from run to run; see `latent_cache`.
        say: Takes messages for the user.

    Raises:
        DdimInterpError: Of the kind that `errors` lists: an order that cannot be meant, an input
            that cannot be used, an output that cannot be written, a model that does not work.
        ArgumentError: Among them, for an output that would replace an input.
        BusyError: Another run makes the same output, or memory ran out for one picture at a time.
    """
    started = time.monotonic()
    order.check(replace=overwrite or resume)
    if order.out is not None:
        inputs = filter(None, map(path_of, getattr(order, "sources", ())))
        check_not_input(order.out, inputs)
    with ExitStack() as stack:
        if order.out is not None:
            stack.enter_context(claim(order.out))
        pipe = load()
        model = pipe.model
        size = batch_size or default_batch_size(model.shape, model.device)
        keep = forget
        decides: dict[str, Any] = {}
        if resume and order.out is not None:
            decides = identity(order, model)
            if not overwrite:
                check_not_another(order.out, decides)
            around = circumstances(pipe.device, size)
            work = open_work(
                order.out, _for_one_file(decides, pipe), around, anew=anew, allow_drift=allow_drift
            )
            keep = stack.enter_context(work)
        if cache:
            keep = _remembering(order, pipe, size, keep)

        def attempt(fewer: int) -> tuple[Product, int]:
            if fewer < size:
                say(f"Memory ran out; once more, {fewer} at a time.")
            return order.make(Attempt(pipe, fewer, keep, overwrite, resume, say)), fewer

        product, size = halve_until_it_fits(attempt, size)
        if order.out is not None and not resume:
            drop_work(order.out, lambda: _for_one_file(identity(order, model), pipe))
    head = {
        "outputs": [] if order.out is None else [str(order.out)],
        "nfe": product.nfe,
        "retries": product.model.retries,
        "seconds": round(time.monotonic() - started, 3),
        "model": product.model.name,
        "batch_size": size,
    }
    return replace(product, head=head, identity=decides)


def identity(order: Order, model: Model) -> dict[str, Any]:
    """All that decides what an order makes with a model, as plain JSON values."""
    return model.describe() | order.describe(model)


def _for_one_file(decides: Mapping[str, Any], pipe: DDIMPipeline) -> dict[str, Any]:
    """All that decides what goes into one file: frames in two precisions are seen to differ."""
    return {"precision": pipe.precision, **decides}


def _remembering(order: Order, pipe: DDIMPipeline, size: int, keep: Keep) -> Keep:
    """`keep`, with inversions remembered between runs, where all that decides them has a name."""
    plan, folder = getattr(order, "plan", None), latent_cache_folder()
    if not isinstance(plan, Plan) or not isinstance(plan.solver, str):
        return keep
    if folder is None or not pipe.weights_sha256:
        return keep
    decides = {
        **pipe.model.identity,
        "precision": pipe.precision,
        "network": pipe.unet.config.to_dict(),
        "scheduler": pipe.scheduler.config.to_dict(),
        "autoencoder": pipe.autoencoder and pipe.autoencoder.config,
        "shape": pipe.model.shape,
        "plan": plan.describe(),
        "around": circumstances(pipe.device, size),
    }
    return LatentCache(folder, decides, keep)
