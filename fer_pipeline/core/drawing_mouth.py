"""The mouth of a drawn face: it says more about the expression than any other part."""

from dataclasses import dataclass

import numpy as np

from fer_pipeline.core.drawing_canvas import Canvas, Points, ellipse, moved, ribbon
from fer_pipeline.core.drawing_traits import Colour, Muscles, Traits, shade

_LINE = np.linspace(-1.0, 1.0, 25)


@dataclass(frozen=True)
class Mouth:
    """Curves of a mouth from its left to its right corner, (25, 2) each, head coordinates.

    `gap` is the height of the opening, 0 for closed lips.
    """

    upper_out: Points
    upper_in: Points
    lower_in: Points
    lower_out: Points
    gap: float


def mouth_curves(traits: Traits, muscles: Muscles) -> Mouth:
    """Where lips and teeth part, for these traits and muscles."""
    s = _LINE
    half = 0.37 * (1 + 0.32 * float(np.clip(muscles.stretch, -1, 1.2)) + 0.05 * muscles.corner)
    jaw = max(0.0, muscles.jaw)
    middle = 0.68 + 0.05 * jaw - 0.03 * max(0.0, muscles.pout)
    corner_right = -0.15 * muscles.corner - 0.02 - 0.15 * max(0.0, muscles.skew)
    corner_left = -0.15 * muscles.corner - 0.02 + 0.02 * max(0.0, muscles.skew)
    ends = corner_left * (1 - s) / 2 + corner_right * (1 + s) / 2
    bow = 1 - s**2
    line = middle + ends * (1 - bow) + 0.045 * muscles.corner * bow
    gap = max(0.0, 0.5 * jaw - 0.02)
    teeth_up, teeth_low = 0.07 * max(0.0, muscles.lip_upper), 0.1 * max(0.0, muscles.lip_lower)
    bared = teeth_up + teeth_low
    gap = gap + bared if gap > 0.01 or bared > 0.03 else 0.0
    # A dropped jaw opens downwards; bared teeth open the mouth along its whole width.
    rounded = max(0.0, -muscles.stretch)
    opening = np.clip(bow, 0, None) ** (0.45 if bared > 0.08 else 0.68 - 0.2 * min(1.0, rounded))
    up = (0.12 + 0.3 * min(1.0, rounded)) * gap + 0.6 * teeth_up
    upper_in = line - up * opening
    lower_in = line + (gap - up) * opening
    thin = max(
        0.25,
        1
        - 0.65 * max(0.0, muscles.press)
        - 0.2 * max(0.0, muscles.corner)
        - 0.15 * max(0.0, muscles.stretch),
    )
    full = traits.lips * thin * (1 - 0.25 * min(1.0, jaw))
    cupid = np.clip(bow, 0, None) ** 0.8 * (1 - 0.22 * np.exp(-((s / 0.16) ** 2)))
    upper_out = upper_in - 0.088 * full * cupid
    lower_out = (
        lower_in + (0.118 + 0.03 * max(0.0, muscles.pout)) * full * np.clip(bow, 0, None) ** 0.6
    )
    curves = [np.stack([s * half, y], axis=1) for y in (upper_out, upper_in, lower_in, lower_out)]
    return Mouth(curves[0], curves[1], curves[2], curves[3], gap)


def draw_mouth(canvas: Canvas, traits: Traits, muscles: Muscles) -> None:
    """Lips, teeth, tongue and what is dark behind them."""
    mouth = mouth_curves(traits, muscles)
    upper_out, upper_in = canvas.project(mouth.upper_out), canvas.project(mouth.upper_in)
    lower_in, lower_out = canvas.project(mouth.lower_in), canvas.project(mouth.lower_out)
    red = traits.lip_red
    skin = np.array(traits.skin)
    lip = skin * (1 - 0.5 * (0.5 + red)) + np.array((176.0, 58.0, 66.0)) * (0.5 * (0.5 + red))
    colour: Colour = (float(lip[0]), float(lip[1]), float(lip[2]))
    top = np.concatenate([upper_out, upper_in[::-1]])
    low = np.concatenate([lower_in, lower_out[::-1]])
    canvas.fill(top, shade(colour, 0.72), lower=shade(colour, 0.82), soft=0.008)
    canvas.fill(low, shade(colour, 1.0), lower=shade(colour, 0.85), soft=0.008)
    centre = mouth.lower_in[12] * 0.45 + mouth.lower_out[12] * 0.55
    shine = canvas.project(ellipse(0.02, centre[1], 0.1, 0.014, 14))
    canvas.fill(shine, shade(colour, 1.45), alpha=0.5 * min(1.0, traits.lips), soft=0.02)
    line = (mouth.upper_in + mouth.lower_in) / 2
    if mouth.gap > 0.012:
        inside = np.concatenate([upper_in, lower_in[::-1]])
        canvas.fill(inside, (62.0, 18.0, 20.0), lower=(92.0, 30.0, 32.0))
        white: Colour = (238.0, 234.0, 224.0)
        height = min(0.11, 0.8 * mouth.gap)
        teeth = np.concatenate(
            [
                moved(upper_in, 0, -0.05),
                moved(upper_in * (0.86, 1), upper_in[12, 0] * 0.14, height)[::-1],
            ]
        )
        if muscles.lip_upper > 0.2 or muscles.corner > 0.3:
            canvas.fill(teeth, white, lower=shade(white, 0.9), clip=inside)
        if muscles.lip_lower > 0.25:
            low_teeth = np.concatenate(
                [moved(lower_in, 0, -height * 0.8), (moved(lower_in, 0, 0.05))[::-1]]
            )
            canvas.fill(low_teeth, shade(white, 0.92), clip=inside)
        if muscles.lip_lower > 0.25 and mouth.gap < 0.32:
            canvas.fill(
                canvas.project(ribbon(line, 0.01, 0.01, 0.014)), (80.0, 40.0, 40.0), clip=inside
            )
        if mouth.gap > 0.18 and muscles.tongue < 0.3:
            tongue = canvas.project(ellipse(0.0, float(mouth.lower_in[12, 1]) + 0.01, 0.2, 0.12))
            canvas.fill(tongue, (176.0, 84.0, 84.0), alpha=0.85, soft=0.02, clip=inside)
        canvas.fill(
            canvas.project(ribbon(mouth.upper_in, 0.02, 0.02, 0.012)),
            (60.0, 22.0, 24.0),
            alpha=0.6,
            soft=0.006,
        )
    else:
        width = 0.026 - 0.006 * max(0.0, muscles.press)
        canvas.fill(
            canvas.project(ribbon(line, 0.02, 0.02, width)),
            shade(colour, 0.32),
            alpha=0.9,
            soft=0.005,
        )
    if muscles.tongue > 0.3:
        bottom = float(mouth.lower_in[12, 1])
        tongue = canvas.project(ellipse(0.0, bottom + 0.06, 0.15, 0.17 * min(1.1, muscles.tongue)))
        canvas.fill(tongue, (206.0, 104.0, 106.0), lower=(224.0, 130.0, 128.0))
        groove = canvas.project(ribbon(np.array([(0.0, bottom), (0.0, bottom + 0.14)]), 0.02, 0.01))
        canvas.fill(groove, (160.0, 66.0, 70.0), alpha=0.7, soft=0.01)
    for end in (line[0], line[-1]):
        canvas.fill(
            canvas.project(ellipse(end[0], end[1], 0.03, 0.025, 12)),
            shade(traits.skin, 0.35),
            alpha=0.5,
            soft=0.015,
        )
