"""What a drawn face is made of: who it is (`Traits`) and what its muscles do (`Muscles`).

Numbers only: no pixel is touched here. The drawing itself is in `drawing_face`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""


@dataclass(frozen=True)
class Muscles:
    """How far each part of a face is moved; 0 is at rest, 1 about as far as it goes.

    The parts follow the action units of the Facial Action Coding System (Ekman and Friesen,
    1978), merged where a drawing cannot tell them apart.
    """

    brow_inner: float = 0.0
    """Inner brow ends raised (AU1), negative lowered (AU4)."""
    brow_outer: float = 0.0
    """Outer brow ends raised (AU2)."""
    brow_knit: float = 0.0
    """Brows drawn together (AU4)."""
    brow_uneven: float = 0.0
    """One brow higher than the other."""
    lid_upper: float = 0.0
    """Upper lids raised (AU5), negative drooping (AU43)."""
    lid_lower: float = 0.0
    """Lower lids raised and tightened (AU7)."""
    wink: float = 0.0
    """One eye closed (AU46)."""
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    """Where the eyes look; positive is to the right of the picture and down."""
    cheek: float = 0.0
    """Cheeks raised (AU6)."""
    nose: float = 0.0
    """Nose wrinkled (AU9)."""
    corner: float = 0.0
    """Lip corners up (AU12), negative down (AU15)."""
    skew: float = 0.0
    """One lip corner up alone (AU14)."""
    stretch: float = 0.0
    """Mouth wider (AU20), negative rounded (AU18)."""
    jaw: float = 0.0
    """Jaw dropped (AU26, AU27)."""
    lip_upper: float = 0.0
    """Upper lip raised (AU10)."""
    lip_lower: float = 0.0
    """Lower lip pulled down from the teeth (AU16)."""
    press: float = 0.0
    """Lips pressed together (AU24)."""
    pout: float = 0.0
    """Chin boss and lower lip pushed up (AU17)."""
    tongue: float = 0.0
    """Tongue shown (AD19)."""


_FIELDS = tuple(field.name for field in fields(Muscles))

_VARIANTS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "Neutral": ({}, {"lid_upper": -0.12}, {"jaw": 0.05}),
    "Happiness": (
        {"corner": 0.95, "stretch": 0.5, "jaw": 0.22, "lip_upper": 0.4, "cheek": 0.9,
         "lid_lower": 0.5, "lid_upper": -0.15},
        {"corner": 0.95, "stretch": 0.4, "jaw": 0.55, "lip_upper": 0.45, "cheek": 1.0,
         "lid_lower": 0.7, "lid_upper": -0.35, "brow_outer": 0.2},
        {"corner": 0.95, "stretch": 0.35, "press": 0.15, "cheek": 0.7, "lid_lower": 0.4},
    ),
    "Sadness": (
        {"brow_inner": 0.95, "brow_outer": -0.55, "brow_knit": 0.4, "lid_upper": -0.4,
         "gaze_y": 0.5, "corner": -0.9, "stretch": -0.1, "pout": 0.6},
        {"brow_inner": 0.9, "brow_outer": -0.6, "brow_knit": 0.5, "lid_upper": -0.55,
         "lid_lower": 0.3, "corner": -1.0, "stretch": 0.1, "jaw": 0.14, "pout": 0.3},
        {"brow_inner": 0.75, "brow_outer": -0.5, "lid_upper": -0.6, "gaze_y": 0.9,
         "corner": -0.75, "stretch": -0.15, "pout": 0.4},
    ),
    "Surprise": (
        {"brow_inner": 0.95, "brow_outer": 0.95, "lid_upper": 0.75, "lid_lower": -0.25,
         "jaw": 0.85, "stretch": -0.45},
        {"brow_inner": 0.9, "brow_outer": 0.9, "lid_upper": 0.8, "lid_lower": -0.2,
         "jaw": 0.5, "stretch": -0.55},
        {"brow_inner": 1.0, "brow_outer": 1.0, "lid_upper": 0.65, "jaw": 1.0,
         "stretch": -0.3, "lip_upper": 0.1},
    ),
    "Fear": (
        {"brow_inner": 1.0, "brow_outer": 0.15, "brow_knit": 0.7, "lid_upper": 0.75,
         "lid_lower": 0.25, "jaw": 0.32, "stretch": 0.55, "corner": -0.45, "lip_lower": 0.6},
        {"brow_inner": 1.0, "brow_outer": 0.1, "brow_knit": 0.8, "lid_upper": 0.7,
         "lid_lower": 0.2, "jaw": 0.5, "stretch": 0.4, "corner": -0.5, "lip_lower": 0.3},
    ),
    "Disgust": (
        {"brow_inner": -0.45, "brow_outer": -0.1, "brow_knit": 0.5, "lid_upper": -0.4,
         "lid_lower": 0.8, "nose": 1.0, "lip_upper": 0.9, "corner": -0.55, "cheek": 0.5,
         "jaw": 0.1},
        {"brow_inner": -0.4, "brow_knit": 0.4, "lid_upper": -0.5, "lid_lower": 0.8,
         "nose": 1.0, "lip_upper": 0.8, "corner": -0.5, "cheek": 0.4, "jaw": 0.4,
         "tongue": 0.8},
    ),
    "Anger": (
        {"brow_inner": -1.0, "brow_outer": 0.45, "brow_knit": 1.0, "lid_upper": 0.15,
         "lid_lower": 0.5, "press": 0.9, "corner": -0.4, "nose": 0.25},
        {"brow_inner": -1.0, "brow_outer": 0.45, "brow_knit": 0.9, "lid_upper": 0.25,
         "lid_lower": 0.5, "jaw": 0.32, "lip_upper": 0.6, "lip_lower": 0.8, "stretch": 0.15,
         "corner": -0.4, "nose": 0.5},
        {"brow_inner": -0.9, "brow_outer": 0.35, "brow_knit": 1.0, "lid_upper": 0.3,
         "lid_lower": 0.4, "jaw": 0.7, "lip_upper": 0.4, "lip_lower": 0.6, "corner": -0.3},
    ),
    "Contempt": (
        {"skew": 1.0, "lid_upper": -0.35, "brow_uneven": 0.5, "gaze_x": 0.4, "cheek": 0.2},
        {"skew": 0.9, "lid_upper": -0.45, "press": 0.3, "brow_uneven": 0.3},
    ),
    "None": (
        {"wink": 1.0, "tongue": 1.0, "jaw": 0.35, "corner": 0.4},
        {"lid_upper": -1.6, "jaw": 0.95, "lid_lower": 0.6, "brow_inner": 0.4},
        {"stretch": -1.0, "press": -0.5, "lid_upper": -1.6, "brow_outer": 0.5},
        {"wink": 1.0, "skew": 0.9, "brow_uneven": 0.8},
    ),
}  # fmt: skip

_MIXED = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Anger", "Contempt")


def expression_muscles(rng: np.random.Generator, expression: str) -> Muscles:
    """A sampled face of `expression` (a name of `labels.NAMES` other than No-Face).

    The intensity varies from barely visible to full, one of several ways to show the expression
    is taken, and every muscle has a little tone of its own, so that classes overlap. "Uncertain"
    is half of one expression and half of another.
    """
    if expression == "Uncertain":
        first, second = rng.choice(len(_MIXED), 2, replace=False)
        share = rng.uniform(0.3, 0.55)
        move = share * _vector(rng, _MIXED[first]) + (0.85 - share) * _vector(rng, _MIXED[second])
    else:
        move = (0.4 + 0.7 * rng.beta(2.2, 1.5)) * _vector(rng, expression)
    tone = rng.normal(0.0, 0.11, len(_FIELDS))
    # A resting face closes its mouth, and nobody winks a little.
    for name in ("jaw", "tongue", "wink", "skew", "lip_lower", "nose"):
        tone[_FIELDS.index(name)] *= 0.25
    values = move * rng.uniform(0.75, 1.2, len(_FIELDS)) + tone
    return Muscles(**dict(zip(_FIELDS, values.tolist(), strict=True)))


def _vector(rng: np.random.Generator, expression: str) -> np.ndarray:
    variants = _VARIANTS[expression]
    chosen = variants[int(rng.integers(len(variants)))]
    return np.array([chosen.get(name, 0.0) for name in _FIELDS])


@dataclass(frozen=True)
class Traits:
    """Who a drawn face is. Shape numbers are factors about 1; colours are RGB, 0 to 255."""

    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    jaw: float
    chin: float
    length: float
    eye_size: float
    eye_gap: float
    eye_tilt: float
    nose_width: float
    nose_length: float
    lips: float
    lip_red: float
    brow: float
    age: float
    hair_style: str
    beard: str
    glasses: str


_SKINS: tuple[Colour, ...] = (
    (250, 218, 198), (240, 200, 174), (230, 184, 150), (214, 164, 126), (192, 138, 100),
    (160, 108, 76), (128, 84, 58), (98, 64, 46),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (52, 36, 28), (86, 56, 36), (120, 80, 48), (176, 132, 78), (212, 178, 120),
    (150, 66, 34), (150, 148, 148), (214, 212, 210),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = (
    (62, 40, 26), (84, 54, 30), (104, 82, 44), (70, 104, 128), (96, 130, 100), (92, 104, 116),
)  # fmt: skip
HAIR_STYLES = ("bald", "buzz", "short", "side", "fringe", "bob", "long", "bun", "curly", "scarf")
_HAIR_SHARES = (0.06, 0.08, 0.17, 0.14, 0.12, 0.13, 0.14, 0.06, 0.07, 0.03)


def random_traits(rng: np.random.Generator) -> Traits:
    """A person made up at random."""
    age = float(rng.beta(1.3, 2.2))
    dark_skin = rng.random() < 0.35
    skin = _mixed(rng, _SKINS[4:] if dark_skin else _SKINS[:5])
    hairs = _HAIRS[:3] if dark_skin else _HAIRS[:7]
    hair = _mixed(rng, _HAIRS[7:]) if age > 0.6 and rng.random() < 0.6 else _pick(rng, hairs)
    style = HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=_HAIR_SHARES))]
    beard = ""
    if style in ("bald", "buzz", "short", "side", "curly") and rng.random() < 0.4:
        beard = ("stubble", "full", "moustache")[int(rng.integers(3))]
    draw = rng.random()
    return Traits(
        skin=skin,
        hair=_varied(rng, hair, 8),
        iris=_varied(rng, _pick(rng, _IRISES[:2] if dark_skin else _IRISES), 6),
        clothes=(float(rng.uniform(20, 230)), float(rng.uniform(20, 220)),
                 float(rng.uniform(20, 230))),
        jaw=float(rng.uniform(0.88, 1.12)),
        chin=float(rng.uniform(0.85, 1.15)),
        length=float(rng.uniform(0.95, 1.07)),
        eye_size=float(rng.uniform(0.9, 1.16)),
        eye_gap=float(rng.uniform(0.94, 1.06)),
        eye_tilt=float(rng.normal(0.0, 0.035)),
        nose_width=float(rng.uniform(0.8, 1.3)),
        nose_length=float(rng.uniform(0.9, 1.1)),
        lips=float(rng.uniform(0.75, 1.35)),
        lip_red=float(rng.beta(1.5, 2.5)),
        brow=float(rng.uniform(0.65, 1.4)),
        age=age,
        hair_style=style,
        beard=beard,
        glasses="dark" if draw < 0.012 else "clear" if draw < 0.12 else "",
    )  # fmt: skip


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _mixed(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    start = int(rng.integers(len(colours) - 1))
    part = rng.random()
    pairs = zip(colours[start], colours[start + 1], strict=True)
    red, green, blue = (one + part * (other - one) for one, other in pairs)
    return float(red), float(green), float(blue)


def _varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3), 8, 247).tolist()
    return float(red), float(green), float(blue)


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor below 1) or lighter (above 1: towards white) version of a colour."""
    if factor <= 1:
        # Shadows on skin are warm: red fades last.
        red, green, blue = (
            part * factor**power for part, power in zip(colour, (0.85, 1.05, 1.1), strict=True)
        )
    else:
        red, green, blue = (part + (255 - part) * (factor - 1) for part in colour)
    return red, green, blue
