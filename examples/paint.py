"""Paint the example pictures: six fruits in watercolour, each whole above its cut half.

    python examples/paint.py              # paint them all into examples/images
    python examples/paint.py pear plum    # only these

Pigment is transparent: a wash multiplies the light that the paper sends back (Beer and Lambert),

    reflectance = paper · exp(−Σ amount_k · absorbance_k),

so a `Sheet` only adds up density. Whole fruits are solids of revolution seen from the front
(`mould`), halves are sections of them (`cut`). Distances are in sheet widths, x to the right and
y down; what belongs to a fruit is in fruit radii about its centre, y up. Angles are in turns
where they place pigment and in radians where they enter a sine.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 512
N = 2 * SIDE  # painted at twice the size, for clean edges
IMAGES = Path(__file__).parent / "images"
LIGHT = np.array([-0.52, 0.60, 0.61])  # where it comes from: right, up, towards the viewer
TURN = 2 * np.pi
Y, X = (np.mgrid[:N, :N] + 0.5) / N

Field = np.ndarray  # (N, N) floats: how much of something is where
Line = np.ndarray  # (M, 2) points
Width = Callable[[np.ndarray], np.ndarray] | float  # of a stroke, at each way along it, 0…1

PIGMENT = {  # the colour of one full wash on white paper
    "flesh": (252, 243, 208),
    "lemon": (255, 232, 84),
    "gamboge": (253, 206, 60),
    "ochre": (226, 176, 96),
    "orange": (251, 148, 28),
    "rose": (248, 160, 150),
    "vermilion": (230, 62, 40),
    "crimson": (178, 22, 46),
    "violet": (104, 48, 92),
    "indigo": (66, 78, 118),
    "sap": (136, 156, 62),
    "leaf": (78, 112, 62),
    "sienna": (166, 92, 46),
    "umber": (116, 86, 58),
    "sepia": (78, 58, 48),
    "dusk": (180, 171, 170),
    "graphite": (112, 110, 110),
}


# --- fields ---------------------------------------------------------------------------------------


def step(low: float, high: float, x: Field) -> Field:
    """0 at `low`, 1 at `high`, smooth between, flat outside."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def bell(x: Field, width: float = 1.0) -> Field:
    """1 at 0, fading within `width`."""
    return np.exp(-((x / width) ** 2))


def blur(x: Field, width: float) -> Field:
    """Gaussian of standard deviation `width`."""
    g = np.exp(-2 * (np.pi * width * np.fft.fftfreq(N, 1 / N)) ** 2)
    return np.fft.irfft2(np.fft.rfft2(x) * g[:, None] * g[: N // 2 + 1], s=(N, N))


def sample(texture: Field, u: Field, v: Field) -> Field:
    """Look up a texture that repeats in u and v with period 1."""
    i, j = np.floor(v * N).astype(int), np.floor(u * N).astype(int)
    a, b = v * N - i, u * N - j
    upper, lower = (
        (1 - b) * texture[k % N, j % N] + b * texture[k % N, (j + 1) % N] for k in (i, i + 1)
    )
    return (1 - a) * upper + a * lower


# --- lines ----------------------------------------------------------------------------------------


def points(text: str) -> Line:
    """Pairs of numbers, written x y x y …"""
    return np.array(text.split(), float).reshape(-1, 2)


def curve(through: Line, n: int = 30) -> Line:
    """A Catmull–Rom spline."""
    p = np.concatenate([2 * through[:1] - through[1:2], through, 2 * through[-1:] - through[-2:-1]])
    t = np.arange(n)[:, None] / n
    spans = [
        b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * b - a - 3 * c + d)))
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*spans, p[-2:-1]])


def across(line: Line) -> Line:
    """The unit normals of a line."""
    along = np.gradient(line, axis=0)
    return along[:, ::-1] * [-1, 1] / np.hypot(*along.T)[:, None]


def ribbon(line: Line, width: Width) -> Line:
    """The outline of a stroke."""
    u = np.linspace(0, 1, len(line))[:, None]
    half = across(line) * (width(u) if callable(width) else width) / 2
    return np.concatenate([line + half, (line - half)[::-1]])


def region(*outlines: Line) -> Field:
    """What lies inside these closed outlines."""
    image = Image.new("L", (N, N))
    for outline in outlines:
        ImageDraw.Draw(image).polygon([tuple(p) for p in outline * N], fill=255)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.8))) / 255


def drop(
    x: float, y: float, length: float, width: float, turn: float = 0.0, point: float = 1.2
) -> Line:
    """The outline of a seed: round below, pointed above, leaning right by `turn` radians."""
    t = np.linspace(0, TURN, 60)
    a, b = width * np.sin(t) * np.sin(t / 2) ** point, length * np.cos(t)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([x + c * a + s * b, y + c * b - s * a], 1)


# --- fruit as shapes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Where a fruit lies: centre, radius, and how far it leans to the right, in radians."""

    x: float
    y: float
    size: float
    lean: float = 0.0

    @property
    def axes(self) -> np.ndarray:
        c, s = np.cos(self.lean), np.sin(self.lean)
        return np.array([[c, -s], [s, c]])

    def local(self) -> np.ndarray:
        return np.tensordot(self.axes, np.stack([X - self.x, self.y - Y]) / self.size, 1)

    def sheet(self, line: Line) -> Line:
        return [self.x, self.y] + line @ self.axes * [self.size, -self.size]


@dataclass(frozen=True)
class Solid:
    """A whole fruit as seen: its silhouette, and what the brush has to know at each point of it."""

    inside: Field
    light: Field  # cosine to the light
    sheen: Field  # 1 where the window is mirrored
    facing: Field  # 1 towards the viewer, 0 at the edge
    lon: Field  # turns about the stem axis, 0 in front
    lat: Field  # 0 at the stem, 1 at the other end
    at: np.ndarray  # (3, N, N), the point itself

    def wrap(self, texture: Field) -> Field:
        return sample(texture, self.lon, self.lat / 2)

    def sun(self, lon: float) -> Field:
        """1 on the meridian that the sun coloured, −1 behind."""
        return np.cos(TURN * (self.lon - lon))

    @property
    def dark(self) -> Field:
        return self.inside * step(0.8, -0.4, self.light)


def mould(frame: Frame, profile: Line, tilt: float, waves: Mapping[int, float]) -> Solid:
    """Turn a profile (half-width, height), stem end first, about its axis; tip it to the viewer.

    `waves` (how many to a turn: how high) around its waist keep it from perfection.
    """
    side = curve(profile)
    angles, radii = np.arctan2(*side.T), np.hypot(*side.T)
    reach = radii.max() * 1.08
    c, s = np.cos(tilt), np.sin(tilt)

    def depth(x: Field, y: Field, z: Field) -> Field:  # how far inside
        y, z = c * y + s * z, c * z - s * y
        phi, lon = np.arctan2(np.hypot(x, z), y), np.arctan2(x, z)
        swell = np.sin(phi) * sum(a * np.cos(k * lon + 3) for k, a in waves.items())
        return np.interp(phi, angles, radii) * (1 + swell) - np.sqrt(x * x + y * y + z * z)

    a, b = frame.local()
    near = np.hypot(a, b) < reach
    x, y = a[near], b[near]
    slices = np.linspace(reach, -reach / 2, 90)  # from the viewer inwards
    z = np.full(x.shape, np.nan)
    for height in slices:
        z = np.where(np.isnan(z) & (depth(x, y, np.full_like(x, height)) > 0), height, z)
    hit = ~np.isnan(z)
    near[near] = hit
    x, y, z = x[hit], y[hit], z[hit]
    gap = slices[0] - slices[1]
    for _ in range(10):  # bisect
        gap /= 2
        z = np.where(depth(x, y, z + gap) > 0, z + gap, z)
    e = 0.015 * np.eye(3)
    normal = [depth(x - i, y - j, z - k) - depth(x + i, y + j, z + k) for i, j, k in e]
    normal /= np.linalg.norm(normal, axis=0)
    light = np.array([*frame.axes @ LIGHT[:2], LIGHT[2]])
    mirror = light + np.array([0, 0, 1])
    mirror /= np.linalg.norm(mirror)
    y, z = c * y + s * z, c * z - s * y

    def spread(values: np.ndarray | float, outside: float = 0.0) -> Field:
        field = np.full((N, N), outside)
        field[near] = values
        return field

    return Solid(
        inside=blur(spread(1), 0.0008),
        light=spread(light @ normal, 0.5),
        sheen=spread(mirror @ normal),
        facing=spread(np.clip(normal[2], 0, 1), 0.5),
        lon=spread(np.arctan2(x, z) / TURN),
        lat=spread(np.arctan2(np.hypot(x, z), y) / np.pi, 0.5),
        at=np.stack([spread(x), spread(y), spread(z)]),
    )


@dataclass(frozen=True)
class Slice:
    """The face of a cut."""

    inside: Field
    out: Field  # 0 in the middle, 1 at the skin
    turn: Field  # clockwise, 0 at the stem
    x: Field
    y: Field


def cut(frame: Frame, profile: Line) -> Slice:
    """Halve the solid with this profile along its axis."""
    side = curve(profile)
    x, y = frame.local()
    radius = np.interp(np.arctan2(np.abs(x), y), np.arctan2(*side.T), np.hypot(*side.T))
    inside = region(frame.sheet(np.concatenate([side, side[::-1] * [-1, 1]])))
    return Slice(inside, np.hypot(x, y) / radius, np.arctan2(x, y) / TURN % 1, x, y)


# --- the sheet ------------------------------------------------------------------------------------


class Sheet:
    """Cream paper, and the pigment laid on it so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.density = np.zeros((N, N, 3))
        # what a wash meets: the grain of the paper, where it pools, the lines at which it stops
        self.grain = (self.noise(N // 2, octaves=2) + self.noise(180)) * 0.7
        self.pool = self.noise(10, octaves=5)
        self.tide = bell(self.noise(7, octaves=4), 0.07)
        for x in (0.07, 0.935):  # the ruled margin
            self.pencil(np.array([[x, -0.01], [x + 0.004, 1.01]]), 0.002, 0.14)
        corner = 0.11 if seed % 2 else 0.72
        self.note(corner, 0.9, self.rng.integers(3, 9, 2))
        self.note(corner, 0.925, self.rng.integers(3, 9, 1))

    def noise(self, across: int, down: int | None = None, octaves: int = 1) -> Field:
        """Fractal value noise, `across` × `down` cells, mean 0 and deviation 1; it repeats."""
        total = np.zeros((N, N))
        for k in range(octaves):
            w, h = (min(n * 2**k, N) for n in (across, down or across))
            cells = self.rng.standard_normal((h, w)).astype(np.float32)
            tile = Image.fromarray(np.pad(cells, 3, mode="wrap"))
            box = (3, 3, 3 + w, 3 + h)
            total += 0.55**k * np.asarray(tile.resize((N, N), Image.Resampling.BICUBIC, box))
        return (total - total.mean()) / total.std()

    def wash(self, where: Field, pigment: str, strength: float = 1.0, edge: float = 0.7) -> None:
        """Lay a pigment: it pools, settles in the grain, and gathers where the wash dries last."""
        rim = np.clip(where - blur(where, 0.005), 0, 1) if edge else 0
        paper = 1 + 0.14 * self.grain + 0.13 * self.pool + 0.16 * self.tide
        amount = strength * where * (1 + edge * rim) * np.clip(paper, 0, 3)
        self.density -= amount[..., None] * np.log(np.array(PIGMENT[pigment]) / 255)

    def glaze(self, where: Field, pigment: str, strength: float = 1.0) -> None:
        """Lay a pigment wet in wet: no edge."""
        self.wash(where, pigment, strength, edge=0)

    def lift(self, where: Field) -> None:
        """Take pigment off again with a clean damp brush."""
        self.density *= 1 - np.clip(where, 0, 1)[..., None]

    def dots(self, body: Solid, per_radius: float, size: float, soft: float = 0.12) -> Field:
        """Dots scattered over a solid: its section with a cloud of balls, one to a cell."""
        p = body.at * per_radius
        cell = np.floor(p).astype(int)
        ball = self.rng.random((64, 64, 64, 4)).astype(np.float32)[tuple(cell % 64)]
        middle = 0.3 + 0.4 * np.moveaxis(ball[..., :3], -1, 0)
        away = np.linalg.norm(p - cell - middle, axis=0)
        return body.inside * step(0, soft, size * (0.4 + 0.6 * ball[..., 3]) - away)

    def form(self, body: Solid, near: str, deep: str, window: Field, shine: float) -> None:
        """Give it form: half-shadow, shadow, highlight (`window`), light off the paper."""
        self.glaze(body.dark, near, 0.6)
        self.glaze(body.dark**2, deep, 0.6)
        self.lift(body.inside * window * shine)
        self.lift(body.dark * step(0.45, 0.1, body.facing) * 0.22)

    def shadow(self, frame: Frame, inside: Field, width: float = 1.0, foot: float = 0.9) -> None:
        """What the fruit keeps from the light, to its lower right; none under the fruit itself."""
        a = (X - frame.x) / frame.size / width
        b = (frame.y - Y) / frame.size + foot
        hatch = 1 + 0.12 * sample(self.noise(10, 120), X + 0.4 * Y, Y - 0.25 * X)
        bare = (1 - inside) * hatch
        self.glaze(bare * bell(a - 0.55, 0.75) * bell(b - 0.12 - 0.1 * a, 0.2), "dusk", 0.7)
        self.glaze(bare * bell(a - 0.18, 0.62) * bell(b - 0.01, 0.1), "umber", 0.32)

    def pencil(self, line: Line, width: float, strength: float) -> None:
        drawn = region(ribbon(line, width)) * np.clip(0.7 + 0.5 * self.grain, 0, 1.3)
        self.glaze(drawn, "graphite", strength)

    def note(self, x: float, y: float, words: Sequence[int], size: float = 0.0068) -> None:
        """Pencilled words nobody can read, given by their letters."""
        for letters in words:
            t = np.linspace(0, letters, letters * 24)
            tall = self.rng.choice([0.8, 0.9, 1.0, 2.2, -1.1], letters + 1)
            tall = np.interp(t, np.arange(letters + 1), tall)
            up = tall * (0.5 - 0.5 * np.cos(TURN * t)) + 0.12 * np.sin(2.3 * t)
            along = 0.95 * t - 0.28 * np.sin(TURN * t) + 0.35 * up
            self.pencil(np.stack([x + size * along, y - size * up], 1), 0.0013, 0.3)
            x += size * (letters + 1.2)

    def stem(self, line: Line, thick: float = 0.011) -> None:
        def taper(u: np.ndarray) -> np.ndarray:
            return thick * (0.65 + 0.6 * u**4)

        whole = region(ribbon(line, taper))
        self.lift(whole)
        self.wash(whole, "sienna", 0.75)
        self.wash(whole * region(ribbon(line + np.array([0.33, 0.2]) * thick, taper)), "sepia", 0.9)

    def leaf(self, rib: Line, width: float) -> None:
        """A leaf along its midrib: two sides in two tones, side veins shaded below, lit above."""
        u = np.linspace(0, 1, len(rib))[:, None]
        teeth = 1 + 0.05 * np.abs((u * 26) % 1 - 0.5)
        spread = width * np.sin(np.pi * u**0.8) ** 0.9 * (1 - 0.35 * u) * teeth
        for side, tone in ((-1, 0.5), (1, 0.95)):
            normal = side * across(rib)
            half = region(np.concatenate([rib + 0.0009 * normal, (rib + spread * normal)[::-1]]))
            self.lift(half)
            self.wash(half, "sap", 0.9)
            self.wash(half * step(-2.5, 1, self.noise(16, octaves=3)), "leaf", tone)
            veins = []
            for k in range(5, len(rib) - 8, 6):
                end = rib[k + 8] + 0.85 * (spread * normal)[k + 8]
                bend = (rib[k] + end) / 2 + 0.12 * (rib[k + 8] - rib[k])
                veins.append(curve(np.stack([rib[k], bend, end])))
            below, above = (
                region(*(ribbon(v + d, lambda u: 0.003 - 0.0025 * u) for v in veins))
                for d in (0.0013, 0)
            )
            self.glaze(half * below, "leaf", 0.5)
            self.lift(half * above * 0.4)

    def finish(self) -> Image.Image:
        """Let it dry: the hand had trembled a little, and the paper has aged."""
        dx, dy = (0.0013 * self.noise(9) + 0.00018 * self.noise(110) for _ in "xy")
        density = np.stack([sample(self.density[..., k], X + dx, Y + dy) for k in range(3)], -1)
        age = 0.016 + 0.008 * self.noise(3, octaves=5)
        for cells, strength in ((20, 0.02), (88, 0.05)):  # foxing
            age = age + strength * blur(step(2.3, 3.2, self.noise(cells, octaves=2)), 0.003)
        paper = np.array([254, 247, 226]) / 255 * np.exp(-age[..., None] * [0.3, 0.8, 1.8])
        paper *= 1 + 0.0035 * self.grain[..., None]
        pixels = np.clip(255 * paper * np.exp(-density), 0, 255)
        pixels = pixels.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
        return Image.fromarray(pixels.round().astype(np.uint8))


# --- what fruits share ----------------------------------------------------------------------------


def pome(sheet: Sheet, frame: Frame, profile: Line, core: Sequence[float], skin: str) -> None:
    """The half of an apple or a pear: pale flesh, the core's line, two cells with their seeds."""
    face = cut(frame, profile)
    inside, x, y = face.inside, face.x, face.y
    middle, wide, high = core
    top, bottom = profile[0, 1], profile[-1, 1]
    sheet.shadow(frame, inside, 0.95, -profile[:, 1].min() - 0.03)
    sheet.wash(inside, "flesh", 0.5)
    sheet.glaze(inside * step(0.55, 1.0, face.out + 0.05 * sheet.pool), "lemon", 0.2)
    away = step(-0.2, 1.2, 0.8 * x - 0.6 * y + 0.12 * sheet.pool)
    sheet.glaze(inside * away * step(0.4, 1, face.out), "ochre", 0.38)
    u, v = x / wide, (y - middle) / high
    heart = np.hypot(u, v) + 0.18 * np.abs(u) * v + 0.03 * sheet.pool
    sheet.glaze(inside * step(1.05, 0.3, heart), "sap", 0.15)
    sheet.glaze(inside * bell(heart - 1, 0.03) * step(-1.6, 0.6, sheet.noise(70)), "leaf", 0.3)
    for height, reach in ((top, 0.16), (bottom, 0.1)):
        sheet.glaze(inside * bell(np.hypot(x / 0.1, (y - height) / reach)), "sienna", 0.5)
    ends = [(top, 0.6), (bottom, -0.6)]
    axis = [np.array([[0, end], [0.02, middle + k * high], [0, middle]]) for end, k in ends]
    sepal = [np.array([[0, bottom], [k, bottom + 0.07], [0, bottom + 0.15]]) for k in (-0.05, 0.05)]
    threads = [ribbon(frame.sheet(curve(t)), lambda u: 0.006 - 0.005 * u) for t in axis + sepal]
    sheet.wash(inside * region(*threads) * step(-2.5, 1, sheet.noise(30)), "umber", 0.55)
    for side in (-1, 1):
        at, turn = side * 0.36 * wide, 0.14 * side
        dim = step(-0.06, 0.1, 0.8 * (x - at) - 0.4 * (y - middle))
        cell = region(frame.sheet(drop(at, middle, 0.5 * high, 0.27 * wide, turn)))
        seed = region(frame.sheet(drop(at, middle - 0.06 * high, 0.34 * high, 0.2 * wide, turn)))
        gleam = drop(at - 0.05 * wide, middle - 0.08 * high, 0.17 * high, 0.05 * wide, turn)
        sheet.wash(cell, "ochre", 0.55, edge=2.5)
        sheet.wash(cell * dim, "umber", 0.3)
        sheet.wash(seed, "sienna", 1.1)
        sheet.wash(seed * dim, "sepia", 1.2)
        sheet.lift(region(frame.sheet(gleam)) * 0.55)
    sheet.glaze(inside * step(0.963, 0.988, face.out + 0.008 * sheet.noise(9)), skin, 0.8)


def zest(sheet: Sheet, body: Solid, ground: str, glow: str) -> None:
    """The skin of an orange or a lemon: two yellows, and pores that catch light and shade."""
    skin = body.inside
    mottle = body.wrap(sheet.noise(9, 5, 4))
    window = step(0.9, 1.0, body.sheen + 0.01 * mottle)
    sheet.wash(skin, ground, 0.9)
    sheet.wash(skin * (1 - 0.7 * window), glow, 0.6)
    sheet.wash(skin * step(-0.5, 1.6, mottle), glow, 0.35)
    sheet.glaze(body.dark**4, "umber", 0.5)
    sheet.glaze(sheet.dots(body, 16, 0.42, 0.3) * (0.35 + body.dark), "sienna", 0.35)
    sheet.lift(sheet.dots(body, 17, 0.3, 0.3) * 0.25)
    sheet.form(body, "ochre", "sienna", window, 0.45)


def citrus(sheet: Sheet, frame: Frame, pulp: str, glow: str, peel: str, segments: int) -> None:
    """An orange or a lemon cut across: peel, pith, and segments full of juice."""
    t = np.linspace(0, np.pi, 24)
    face = cut(frame, np.stack([np.sin(t), 0.97 * np.cos(t)], 1))
    inside, out = face.inside, face.out
    sheet.shadow(frame, inside, 0.95, 0.93)
    seams = (np.arange(segments) + 0.3 * sheet.rng.random(segments)) / segments
    wall = np.min([np.abs((face.turn - s + 0.5) % 1 - 0.5) for s in seams], 0) * TURN * out
    rind = 0.86 - out + 0.006 * sheet.noise(20, octaves=2)
    deep = 1 / sum(k / np.clip(d, 1e-4, 9) for k, d in ((1, wall), (0.6, rind), (0.5, out - 0.1)))
    juice = inside * step(0.012, 0.026, deep)
    sacs = sample(sheet.noise(80, 6, 2), face.turn, out)
    sheet.wash(inside, "flesh", 0.7)
    sheet.wash(juice, pulp, 0.75, edge=1.2)
    sheet.wash(juice * step(-0.4, 1.6, sacs + 0.5 * sheet.pool), glow, 0.5)
    sheet.wash(juice * step(0.7, 2.0, sacs + 0.4 * sheet.pool), "sienna", 0.16)
    sheet.glaze(juice * step(-0.4, 1.2, face.x - face.y), "ochre", 0.3)
    sheet.lift(juice * bell(sacs + 0.3, 0.14) * 0.4)
    sheet.glaze(inside * step(0.24, 0.02, out), "ochre", 0.3)
    sheet.glaze(inside * step(0.9, 0.96, out), "gamboge", 0.35)
    sheet.glaze(inside * step(0.945, 0.975, out), peel, 1.0)


def sepals(sheet: Sheet, frame: Frame) -> None:
    """The green star on a strawberry, and its stalk."""
    top = np.array([0, 0.7])
    tips = points("-.62 .2 .6 .24 -.42 -.12 .44 -.1 -.66 -.02 .64 .02 -.12 -.3 .16 -.26")
    for k, tip in enumerate(tips):
        rib = frame.sheet(curve(np.stack([top, top + tip * [0.55, 0.45] + [0, 0.1], top + tip])))
        blade = region(ribbon(rib, lambda u: 0.042 * np.sin(np.pi * (0.12 + 0.88 * u) ** 0.8)))
        vein = region(ribbon(rib, lambda u: 0.006 * (1 - u)))
        sheet.lift(blade * 0.93)
        sheet.wash(blade, "sap", 0.8, edge=1.5)
        sheet.wash(blade * (1 - vein), "leaf", 0.4 + 0.25 * (k % 3), edge=1.5)
    stalk = region(ribbon(frame.sheet(curve(top + points("0 0 .03 .3 .2 .58"))), 0.011))
    sheet.lift(stalk)
    sheet.wash(stalk, "sap", 0.9)
    sheet.wash(stalk * step(-0.5, 1.5, sheet.noise(40)), "leaf", 0.6)


# --- six fruits -----------------------------------------------------------------------------------


def apple(sheet: Sheet) -> None:
    profile = points(
        "0 .5 .08 .56 .2 .78 .42 .9 .75 .78 .98 .4 1.03 .02 .93 -.42 .68 -.78 .42 -.92 .24 -.9 "
        ".1 -.8 0 -.78"
    )
    whole, half = Frame(0.49, 0.285, 0.195, -0.06), Frame(0.49, 0.75, 0.19, 0.03)
    body = mould(whole, profile, 0.34, {2: 0.03, 5: 0.02})
    skin, lat = body.inside, body.lat
    streaks, hairs = body.wrap(sheet.noise(60, 6, 4)), body.wrap(sheet.noise(240, 14, 2))
    mottle = body.wrap(sheet.noise(7, 4, 4))
    window = step(0.925, 0.995, body.sheen + 0.008 * hairs + 0.012 * mottle)
    sun = step(-1.2, 0.9, body.sun(0.1) + 0.4 * mottle)
    cup = step(0.22, 0.09, lat + 0.012 * streaks)
    red = skin * (1 - 0.85 * cup) * (1 - 0.6 * window)
    sheet.shadow(whole, skin)
    sheet.wash(skin, "gamboge", 0.5)
    sheet.wash(skin * step(0.6, 0.0, sun), "sap", 0.35)
    sheet.wash(red * (0.12 + 0.88 * sun), "vermilion", 0.7)
    sheet.wash(red * step(-0.9, 1.3, mottle) * sun, "crimson", 0.25)
    sheet.wash(red * step(-0.4, 2.0, streaks + 0.5 * hairs + 0.7 * sun), "crimson", 0.5)
    sheet.wash(red * step(0.4, 1.8, hairs + 0.6 * streaks), "crimson", 0.35)
    sheet.wash(skin * cup, "sap", 0.6)
    sheet.wash(skin * step(0.12, 0.03, lat + 0.01 * streaks), "umber", 1.0)
    sheet.lift(sheet.dots(body, 9, 0.2) * 0.35)
    sheet.form(body, "crimson", "indigo", window, 0.75)
    sheet.leaf(whole.sheet(curve(points(".1 1.08 .56 1.17 1.08 .96"))), 0.042)
    sheet.stem(whole.sheet(curve(points("0 .68 .02 .86 .1 1.12"))))
    pome(sheet, half, profile, (-0.08, 0.42, 0.48), "crimson")
    sheet.stem(half.sheet(curve(points("0 .5 -.01 .75 .06 1.04"))))


def pear(sheet: Sheet) -> None:
    profile = points(
        "0 1.2 .1 1.18 .25 1.05 .37 .78 .48 .48 .7 .12 .87 -.28 .85 -.64 .62 -.93 .3 -1.02 "
        ".1 -.98 0 -.97"
    )
    whole, half = Frame(0.5, 0.3, 0.172, 0.13), Frame(0.49, 0.775, 0.162, -0.12)
    body = mould(whole, profile, 0.1, {3: 0.02})
    skin, lat = body.inside, body.lat
    mottle, hairs = body.wrap(sheet.noise(6, 4, 5)), body.wrap(sheet.noise(120, 20, 3))
    window = step(0.94, 1.0, body.sheen + 0.016 * mottle)
    sun = step(-0.6, 1.8, body.sun(0.18) + 0.3 * mottle + 0.12 * hairs)
    russet = mottle + 3 * step(0.85, 1.0, lat) + 2.5 * step(0.14, 0.0, lat)
    sheet.shadow(whole, skin, 0.9, 0.98)
    sheet.wash(skin, "lemon", 0.75)
    sheet.wash(skin, "gamboge", 0.35)
    sheet.wash(skin * step(0.5, -0.2, sun) * (1 - 0.7 * window), "sap", 0.25)
    sheet.wash(skin * sun, "rose", 0.8)
    sheet.wash(skin * sun**2 * step(-2.5, 1.5, hairs), "vermilion", 0.5)
    sheet.wash(skin * step(0.6, 2.8, russet + 0.3 * hairs), "sienna", 0.4)
    sheet.glaze(sheet.dots(body, 13, 0.26, 0.2), "sienna", 0.6)
    sheet.glaze(sheet.dots(body, 7, 0.13), "sepia", 0.6)
    sheet.form(body, "ochre", "sienna", window, 0.5)
    sheet.stem(whole.sheet(curve(points("0 1.14 -.01 1.3 -.12 1.5"))), 0.012)
    pome(sheet, half, profile, (-0.4, 0.42, 0.44), "ochre")
    sheet.stem(half.sheet(curve(points("0 1.1 .02 1.26 .12 1.42"))), 0.010)


def orange(sheet: Sheet) -> None:
    profile = points("0 .88 .06 .885 .3 .93 .7 .73 .98 .25 1 -.15 .85 -.55 .5 -.86 .2 -.95 0 -.95")
    whole, half = Frame(0.49, 0.285, 0.193, 0.1), Frame(0.49, 0.75, 0.186, 0.1)
    body = mould(whole, profile, 0.5, {3: 0.012, 7: 0.008})
    skin, lat = body.inside, body.lat
    sheet.shadow(whole, skin)
    zest(sheet, body, "gamboge", "orange")
    sheet.glaze(skin * bell(lat, 0.07) * (0.6 + 0.4 * np.cos(9 * TURN * body.lon)), "sap", 0.9)
    star = skin * step(0.004, -0.004, lat - 0.03 - 0.012 * np.cos(5 * TURN * body.lon))
    sheet.lift(star * 0.8)
    sheet.wash(star, "sap", 1.0, edge=2)
    sheet.wash(skin * step(0.016, 0.008, lat), "umber", 1.0)
    citrus(sheet, half, "orange", "orange", "orange", 10)


def plum(sheet: Sheet) -> None:
    profile = points(
        "0 .84 .06 .87 .22 .93 .52 .8 .78 .42 .86 0 .77 -.46 .48 -.86 .18 -1.01 0 -1.03"
    )
    whole, half = Frame(0.49, 0.3, 0.185, 0.12), Frame(0.49, 0.75, 0.178, -0.08)
    groove = 0.085
    body = mould(whole, profile, 0.3, {2: 0.015, 3: 0.015})
    skin = body.inside
    mottle = body.wrap(sheet.noise(7, 5, 5))
    window = step(0.9, 1.0, body.sheen + 0.014 * mottle)
    sun = step(-0.5, 1.3, body.sun(0.22) + 0.35 * mottle)
    bloom = step(-0.3, 1.7, mottle + 1.2 * body.light)
    seam = bell(body.lon - groove, 0.008) * step(1, 0.6, body.lat)
    sheet.shadow(whole, skin, 0.85)
    sheet.wash(skin, "crimson", 0.28)
    sheet.wash(skin * sun, "rose", 0.3)
    sheet.wash(skin * (1 - 0.4 * window), "violet", 0.28)
    sheet.wash(skin * (1 - 0.85 * sun), "indigo", 0.45)
    sheet.lift(skin * bloom * 0.45)
    sheet.wash(skin * bloom, "indigo", 0.35)
    sheet.lift(sheet.dots(body, 13, 0.17) * 0.3)
    sheet.form(body, "violet", "indigo", window, 0.75)
    sheet.glaze(skin * window, "indigo", 0.15)
    sheet.glaze(body.dark**3, "sepia", 0.4)
    sheet.glaze(skin * (seam + 0.4 * bell(body.lon - groove - 0.012, 0.03)), "sepia", 0.6)
    sheet.glaze(skin * step(0.1, 0.0, body.lat), "sepia", 0.6)
    sheet.stem(whole.sheet(curve(points(".02 .8 0 1.05 .1 1.32"))), 0.009)

    face = cut(half, profile)
    inside, out = face.inside, face.out
    fibres = sample(sheet.noise(130, 4, 2), face.turn, 0.8 * out)
    stone = region(half.sheet(drop(0.01, -0.06, 0.55, 0.33, 0.05, 0.5)))
    ridge = region(ribbon(half.sheet(curve(points(".02 .46 .11 -.05 -.01 -.58"))), 0.004))
    sheet.shadow(half, inside, 0.85, 0.98)
    sheet.wash(inside, "gamboge", 0.65)
    sheet.wash(inside * step(0.5, 1, out + 0.05 * fibres), "ochre", 0.7)
    sheet.wash(inside * step(0.75, 1, out + 0.05 * fibres), "rose", 0.5)
    sheet.wash(inside * step(0, 1.8, fibres), "orange", 0.3)
    sheet.glaze(inside * step(-0.4, 1.2, face.x - face.y), "ochre", 0.5)
    sheet.glaze(blur(stone, 0.009) * (1 - stone), "sienna", 0.9)
    sheet.lift(stone * 0.3)
    sheet.wash(stone, "sienna", 0.5, edge=2)
    sheet.wash(stone * step(-0.4, 1.4, sheet.noise(80, 34, 3)), "umber", 0.5)
    sheet.glaze(stone * step(-0.1, 0.32, face.x), "umber", 0.8)
    sheet.wash(stone * ridge, "sepia", 0.6)
    rim = step(0.945, 0.985, out + 0.012 * sheet.noise(10, octaves=2))
    sheet.glaze(inside * rim, "crimson", 0.6)
    sheet.glaze(inside * rim, "violet", 0.8)


def strawberry(sheet: Sheet) -> None:
    profile = points("0 .7 .2 .76 .5 .76 .78 .55 .88 .2 .8 -.22 .6 -.62 .38 -.9 .18 -1.03 0 -1.06")
    whole, half = Frame(0.49, 0.305, 0.185, -0.12), Frame(0.49, 0.77, 0.172, 0.1)
    body = mould(whole, profile, 0.12, {2: 0.05, 3: 0.03})
    skin = body.inside
    mottle = body.wrap(sheet.noise(9, 5, 4))
    window = step(0.86, 1.0, body.sheen + 0.014 * mottle)
    row = np.floor(15 * body.lat)  # the seeds sit in rows, each shifted by half a seed
    around = np.maximum(np.round(26 * np.sin(np.pi * (row + 0.5) / 15)), 3)
    u = (around * body.lon + row / 2) % 1 - 0.5 + 0.06 * mottle
    v = (15 * body.lat) % 1 - 0.5 + 0.06 * np.roll(mottle, 99)
    pit = np.exp(-((np.hypot(u, v) / 0.36) ** 4))
    seed = step(0.22, 0.13, np.hypot(1.9 * u, v))
    below = step(0.34, 0.2, np.hypot(1.4 * u, v + 0.12)) * (1 - seed)
    sheet.shadow(whole, skin, 0.8, 1.0)
    sheet.wash(skin, "vermilion", 0.7)
    sheet.wash(skin * (1 - 0.8 * window), "vermilion", 0.45)
    sheet.wash(skin * step(-0.5, 1.5, mottle) * (1 - window), "crimson", 0.45)
    sheet.wash(skin * pit * (1 - 0.5 * window), "crimson", 0.35)
    sheet.wash(skin * below, "crimson", 0.6)
    sheet.form(body, "crimson", "sepia", window * (1 - pit), 0.75)
    sheet.lift(skin * seed * 0.85)
    sheet.wash(skin * seed, "gamboge", 0.9)
    x, y, _ = body.at
    sheet.glaze(skin * bell(np.hypot(x / 0.5, (y - 0.62) / 0.2)), "crimson", 0.6)
    sepals(sheet, whole)

    face = cut(half, profile)
    inside, out = face.inside, face.out + 0.02 * sheet.pool
    core = np.hypot(face.x / 0.4, (face.y + 0.05) / 0.62) + 0.06 * sheet.pool
    spoke = np.abs((27 * face.turn + 0.25 * sheet.noise(12, octaves=2)) % 1 - 0.5)
    veins = bell(spoke, 0.05 + 0.06 * step(0.95, 0.4, out)) * step(0.8, 1.1, core)
    sheet.shadow(half, inside, 0.8, 0.98)
    sheet.wash(inside, "rose", 0.45)
    sheet.wash(inside * step(0.35, 1.0, out), "vermilion", 0.8)
    sheet.glaze(inside * bell(core - 1, 0.2), "vermilion", 0.35)
    sheet.glaze(inside * step(-0.4, 1.2, face.x - face.y), "rose", 0.5)
    sheet.lift(inside * veins * step(0.97, 0.8, out) * 0.55)
    sheet.lift(inside * step(0.9, 0.3, core) * 0.5)
    sheet.glaze(inside * step(0.93, 0.99, out), "crimson", 0.7)
    sepals(sheet, half)


def lemon(sheet: Sheet) -> None:
    profile = points(
        "0 1.12 .07 1.11 .14 1.04 .3 .93 .6 .66 .8 .25 .84 -.1 .74 -.5 .48 -.84 .24 -1 .16 -1.16 "
        ".07 -1.26 0 -1.28"
    )
    whole, half = Frame(0.48, 0.285, 0.19, 0.5), Frame(0.49, 0.755, 0.172, 0.1)
    body = mould(whole, profile, 0.15, {3: 0.025, 7: 0.015})
    sheet.shadow(whole, body.inside, 0.95, 0.93)
    zest(sheet, body, "lemon", "gamboge")
    ends = step(0.25, 0.0, body.lat) + step(0.82, 1, body.lat)
    sheet.wash(body.inside * ends, "sap", 0.5)
    sheet.leaf(whole.sheet(curve(points(".02 1.14 .47 1.2 .99 1.08"))), 0.035)
    sheet.stem(whole.sheet(curve(points("0 1.08 .01 1.2 .06 1.32"))), 0.012)
    citrus(sheet, half, "lemon", "lemon", "gamboge", 9)


FRUIT = {f.__name__: f for f in (apple, pear, orange, plum, strawberry, lemon)}


def paint(name: str) -> Image.Image:
    """One finished picture, the same every time."""
    sheet = Sheet(seed=1 + list(FRUIT).index(name))
    FRUIT[name](sheet)
    return sheet.finish()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FRUIT:
        paint(name).save(IMAGES / f"{name}.png", optimize=True)
