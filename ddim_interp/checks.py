"""Did it work? Numbers to trust an inversion by, and what they mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from ddim_interp.latents import RINGS, measure_latents, white_noise
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents

__all__ = [
    "COLOUR_LIMIT",
    "CORRELATION_LIMIT",
    "FAITHFUL_PSNR",
    "FALSE_ALARMS",
    "KURTOSIS_LIMIT",
    "POWER_LIMITS",
    "WHITENESS_LIMIT",
    "Certificate",
    "Fidelity",
    "certify",
    "compare",
]

FAITHFUL_PSNR = 40.0
"""A round trip this good, in dB, cannot be told from the picture by eye."""

POWER_LIMITS = (0.05, 0.25)
"""|z|²/d may lie this far from 1 in a typical latent, and in one still of use; in small latents as
far as it does by chance, 4 √(2/d)."""

WHITENESS_LIMIT = 2.0
"""So often white noise's own patch correlation may a typical latent have."""

CORRELATION_LIMIT = 0.45
"""So much patch correlation, beyond what white noise has by chance, may a latent of use have. At
64×64, pictures like those a model was trained on scored 0.2 to 0.35, screenshots and black 0.6 up.
"""

KURTOSIS_LIMIT = 0.5
"""So far from 0 may a typical latent's excess kurtosis lie; in small latents as far as it does by
chance, 4 √(24/d). Beyond, outlines of the picture stand in the latent. At 64×64, paintings like
those a model was trained on scored 0.41 at most (32 of them), drawings in another hand 0.4 to 6.
"""

COLOUR_LIMIT = 4 / 3
"""So many times louder or quieter than the whole of a typical latent may a ring of its frequencies
be (`latents.ring_powers`); in small latents, and of few frequencies, as much as it is by chance.
With two bands of eight at the limit, what the model at hand draws scored 0.84 and 1.27 of its own
samples (`realism`); with power as f^−0.4, which nothing else here finds, 2.1."""

FALSE_ALARMS = 1e-4
"""Of so many latents of white noise is one called coloured by chance, at most, at any size."""

_COLOUR_CHANCE = NormalDist().inv_cdf(1 - FALSE_ALARMS / 2 / len(RINGS))  # of any ring, either way

_PURE_NOISE = 0.01  # ᾱ: with less signal than this, a latent can be compared with white noise


@dataclass(frozen=True)
class Certificate:
    """How faithfully one picture went into noise space and came back, and where it went.

    Args:
        roundtrip_mse: Mean squared difference between the picture and its decoded latent, pixels
            in [0, 1].
        roundtrip_max_level: Largest difference of a pixel, in 8-bit levels; 0 means that the saved
            pictures are equal.
        latent_power: |z|² / d; 1 for typical noise.
        residuals: How far each step of the inversion missed its equation (`State.residual`), clean
            to noisy; empty if nothing had to be solved.
        nfe: Network evaluations the inversion took, for this picture.
        mean: Mean of z; 0 for typical noise, as are the two below.
        kurtosis: Excess kurtosis of z.
        neighbour_correlation: Correlation of neighbouring entries of z.
        patch_correlation: Of places within 8×8 patches; see `latents.patch_correlation`.
        white_patch_correlation: What white noise of this size has there.
        spectrum: Power of z by spatial frequency, coarse to fine; 1 for typical noise.
        alpha_bar: ᾱ of the level that z lives at: how much picture is left in it.
        dimension: d, the number of entries of z; 0 if unknown.
        repair_cost: What a repair of the latent added to `roundtrip_mse`; 0 without one.
        autoencoder_mse: Mean squared difference between the picture and what its autoencoder alone
            gives back of it, without any inversion; 0 without an autoencoder.
        inversion_mse: Between that and the decoded latent: what the inversion alone lost. With no
            autoencoder it is `roundtrip_mse`.
        inversion_max_level: Likewise.
        rings: Power of z in each of `latents.RINGS`, in units of the whole; 1 for typical noise.
        ring_deviations: How unlike white noise that is, in standard deviations.
    """

    roundtrip_mse: float
    roundtrip_max_level: int
    latent_power: float
    residuals: tuple[float, ...] = ()
    nfe: float = 0.0
    mean: float = 0.0
    kurtosis: float = 0.0
    neighbour_correlation: float = 0.0
    patch_correlation: float = 0.0
    white_patch_correlation: float = 0.0
    spectrum: tuple[float, ...] = ()
    alpha_bar: float = 0.0
    dimension: int = 0
    repair_cost: float = 0.0
    autoencoder_mse: float = 0.0
    inversion_mse: float = 0.0
    inversion_max_level: int = 0
    rings: tuple[float, ...] = ()
    ring_deviations: tuple[float, ...] = ()

    @property
    def fidelity(self) -> "Fidelity":
        """The round trip alone."""
        return Fidelity(self.roundtrip_mse, self.roundtrip_max_level)

    @property
    def inversion(self) -> "Fidelity":
        """The round trip, less what the autoencoder alone loses."""
        if self.autoencoder_mse == 0:
            return self.fidelity
        return Fidelity(self.inversion_mse, self.inversion_max_level)

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio of the round trip, in dB; infinite for no difference."""
        return self.fidelity.psnr

    @property
    def faithful(self) -> bool:
        """Whether the picture comes back, equal in 8 bits or at 40 dB or more; or, of an
        autoencoder, what that gives back of it."""
        return self.inversion.faithful

    @property
    def whiteness(self) -> float:
        """Patch correlation, in units of white noise's own; 1 for typical noise."""
        return self.patch_correlation / max(self.white_patch_correlation, 1e-9)

    @property
    def colour(self) -> tuple[str, float] | None:
        """Of the rings that are louder or quieter than white noise's by more than a typical
        latent's, and than chance, the least likely: its name in `latents.RINGS`, and its power."""
        rings = zip(RINGS, self.rings, self.ring_deviations, strict=False)
        odd = [
            (abs(deviations), name, power)
            for name, power, deviations in rings
            if abs(deviations) > _COLOUR_CHANCE
            # A mean that is nearer to 0 than chance, as a repair's is, does no harm.
            and (power > COLOUR_LIMIT or (power < 1 / COLOUR_LIMIT and name != RINGS[0]))
        ]
        return max(odd)[1:] if odd else None

    @property
    def grade(self) -> str:
        """`typical` noise, `unusual` but of use, or `far` from all the model knows.

        A latent short of pure noise still holds the picture; it is `partial`, and not judged.
        """
        if self.alpha_bar > _PURE_NOISE:
            return "partial"
        if (
            abs(self.latent_power - 1) > max(POWER_LIMITS[1], self._power_chance)
            or self.patch_correlation > self._correlation_limit
        ):
            return "far"
        return "unusual" if self._oddities else "typical"

    @property
    def good(self) -> bool:
        """Whether the picture comes back, and its latent is of use."""
        return self.faithful and self.grade != "far"

    @property
    def verdict(self) -> str:
        """What the numbers mean, in words."""
        alone = self.inversion
        if alone.max_level == 0:
            there = "comes back exactly"
        elif alone.faithful:
            there = f"comes back to {alone.psnr:.1f} dB"
        else:
            there = (
                f"does not come back ({alone.psnr:.1f} dB, {alone.max_level} of 255 levels "
                f"at worst{'' if self.repair_cost else '; try more steps'})"
            )
        if self.autoencoder_mse:
            floor = Fidelity(self.autoencoder_mse, 255).psnr
            there = f"as its autoencoder keeps it ({floor:.1f} dB) {there}"
        where = {
            "typical": "its latent is typical noise",
            "unusual": f"its latent is unusual noise: {self._oddities}",
            "far": f"it is far from what the model knows: its latent is {self._oddities}",
            "partial": f"its latent still holds {self.alpha_bar:.0%} picture, by variance",
        }[self.grade]
        if self.repair_cost:
            where += f"; its repair added {self.repair_cost:.1e} to the error"
        return f"the picture {there}; {where}"

    @property
    def _power_chance(self) -> float:
        """How far |z|²/d may lie from 1 by chance: four deviations of it in white noise."""
        return 4 * math.sqrt(2 / self.dimension) if self.dimension else 0.0

    @property
    def _correlation_limit(self) -> float:
        """Patch correlation that a latent of use may have; chance adds to what is real."""
        return math.hypot(self.white_patch_correlation, CORRELATION_LIMIT)

    @property
    def _oddities(self) -> str:
        """What sets the latent apart from typical noise."""
        found = []
        if abs(self.latent_power - 1) > max(POWER_LIMITS[0], self._power_chance):
            how, middles = ("quiet", "bleached") if self.latent_power < 1 else ("loud", "harsh")
            found.append(
                f"too {how} (|z|²/d = {self.latent_power:.2f}; middles may look {middles})"
            )
        typical = WHITENESS_LIMIT * self.white_patch_correlation
        if self.patch_correlation > min(typical, self._correlation_limit):
            found.append(f"not white (patch correlation {self.whiteness:.1f} × that of noise)")
        if self.colour is not None:
            ring, power = self.colour
            found.append(f"coloured ({power:.2f} × the power of noise {ring})")
        chance = 4 * math.sqrt(24 / self.dimension) if self.dimension else 0.0
        if abs(self.kurtosis) > max(KURTOSIS_LIMIT, chance):
            what = "outlines stand in it" if self.kurtosis > 0 else "it lacks large entries"
            found.append(f"not Gaussian ({what}: excess kurtosis {self.kurtosis:.1f})")
        return ", and ".join(found)


@dataclass(frozen=True)
class Fidelity:
    """How much one picture differs from another.

    Args:
        mse: Mean squared difference, pixels in [0, 1].
        max_level: Largest difference of a pixel, in 8-bit levels.
    """

    mse: float
    max_level: int

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, in dB; infinite for no difference, NaN for no figure."""
        return math.inf if self.mse == 0 else -10 * math.log10(self.mse)

    @property
    def faithful(self) -> bool:
        """Whether the pictures are equal in 8 bits, or alike to 40 dB or more."""
        return self.max_level == 0 or self.psnr >= FAITHFUL_PSNR


def compare(pictures: Images, others: Images) -> tuple[Fidelity, ...]:
    """Compare pictures one by one, as they look when saved: clamped to what a screen shows. A pixel
    that is no number differs as black does from white.

    Args:
        pictures: (N, C, H, W), in [−1, 1].
        others: (N, C, H, W).

    Example:
        >>> grey = torch.zeros(1, 3, 8, 8)
        >>> compare(grey, grey + 0.016)[0].max_level
        2
    """
    unit = [(x.double() / 2 + 0.5).clamp(0, 1) for x in (pictures, others)]
    difference = (unit[0] - unit[1]).flatten(1).nan_to_num(nan=1.0)
    mse = difference.square().mean(1).tolist()
    # Rounded last: of 8-bit pictures it is the same, and a picture between two levels is not said
    # to be one off for the smallest error.
    most = (difference.abs().amax(1) * 255).round().tolist()
    return tuple(Fidelity(*row) for row in zip(mse, map(int, most), strict=True))


def certify(
    pictures: Images,
    decoded: Images,
    latents: Latents,
    residuals: Sequence[Tensor] = (),
    nfe: Tensor | None = None,
    level: Level | None = None,
    floor: Images | None = None,
) -> tuple[Certificate, ...]:
    """One certificate per picture.

    Args:
        pictures: What was inverted, (N, C, H, W), in [−1, 1].
        decoded: What its latents decode to, (N, C, H, W).
        latents: x_T, (N, C, H, W).
        residuals: Of each step of the inversion, (N,) each.
        nfe: Evaluations spent on each picture, (N,).
        level: Where the latents live; pure noise when not given.
        floor: What an autoencoder alone gives back of the pictures, (N, C, H, W), if there is one.

    Example:
        >>> grey = torch.zeros(1, 3, 8, 8)
        >>> certify(grey, grey + 0.016, torch.ones_like(grey))[0].roundtrip_max_level
        2
    """
    count, channels, height, width = latents.shape
    white = white_noise((channels, height, width)).patch_correlation
    steps = torch.stack(list(residuals), dim=1).tolist() if residuals else [[]] * count
    spent = [0.0] * count if nfe is None else nfe.tolist()
    alpha_bar = 0.0 if level is None else level.alpha_bar
    trips = compare(pictures, decoded)
    kept = [0.0] * count if floor is None else [each.mse for each in compare(pictures, floor)]
    alone = trips if floor is None else compare(floor, decoded)
    return tuple(
        Certificate(
            trip.mse,
            trip.max_level,
            z.power,
            tuple(steps[i]),
            spent[i],
            z.mean,
            z.kurtosis,
            z.neighbour_correlation,
            z.patch_correlation,
            white,
            z.spectrum,
            alpha_bar,
            channels * height * width,
            autoencoder_mse=kept[i],
            inversion_mse=alone[i].mse,
            inversion_max_level=alone[i].max_level,
            rings=z.rings,
            ring_deviations=z.ring_deviations,
        )
        for i, (trip, z) in enumerate(zip(trips, measure_latents(latents), strict=True))
    )
