"""A curve as a picture: points in a plane, joined in their order, each with its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE, MARGIN = (640, 420), 56
INK, PALE, KEPT = (40, 40, 40), (215, 215, 215), (200, 40, 40)
TICKS = 5


def curve(points: Sequence[tuple[float, float]], labels: Sequence[str], axes: tuple[str, str],
          marked: int | None = None, limit: float | None = None) -> np.ndarray:
    """uint8 [H,W,3]: points (x, y), the first axis to the right, the second upwards, both from 0; `marked` stands out.

    limit: a value of x that is drawn as a line.
    """
    picture = Image.new("RGB", SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    values = np.array([*points, (0.0, 0.0)], float)
    top = [_round_up(max(values[:, 0].max(), limit or 0.0)), _round_up(values[:, 1].max())]

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (SIZE[k] - 1.5 * MARGIN for k in (0, 1))
        return MARGIN + x / top[0] * across, SIZE[1] - MARGIN - y / top[1] * up

    for k in range(TICKS + 1):
        x, y = top[0] * k / TICKS, top[1] * k / TICKS
        draw.line([place(x, 0), place(x, top[1])], fill=PALE)
        draw.line([place(0, y), place(top[0], y)], fill=PALE)
        draw.text((place(x, 0)[0], SIZE[1] - MARGIN + 4), f"{x:g}", fill=INK, anchor="ma")
        draw.text((MARGIN - 6, place(0, y)[1]), f"{y:g}", fill=INK, anchor="rm")
    draw.text((SIZE[0] / 2, SIZE[1] - 22), axes[0], fill=INK, anchor="ma")
    draw.text((MARGIN, 8), axes[1], fill=INK, anchor="la")
    if limit is not None:
        draw.line([place(limit, 0), place(limit, top[1])], fill=KEPT, width=1)
    spots = [place(*point) for point in points]
    if len(spots) > 1:
        draw.line(spots, fill=INK, width=2)
    for k, ((x, y), label) in enumerate(zip(spots, labels, strict=True)):
        radius, color = (6, KEPT) if k == marked else (3, INK)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
        draw.text((x + radius + 2, y - radius - 8), label, fill=color)
    return np.array(picture)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, five ticks of which are short numbers."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step for step in (1, 2, 2.5, 5, 10) if step * power >= value) * power)
