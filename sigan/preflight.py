"""Preflight: what the references are, as far as it can be measured, and what will go wrong with them.

Letters: x references [K,3,R,R] in [-1,1], y the base's pictures of their codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sigan import appearance, finetuning, images, inversion, losses, sitters
from sigan.bases import Base
from sigan.errors import InputError
from sigan.identity import Identity, offset, on_size
from sigan.references import WHOLE, Reference

FACES, SEED = 24, 2000  # faces of nobody that give the figures their scale; no training sees these
TRUNCATION = 0.7 / 1.5  # of those; the borders below were measured by faces as pale as this
SHORT = 0.75  # of the base's side: a frame with fewer pixels has no strokes left to learn
# Correlation of outlines. Measured: other pictures of a style up to 0.51; the same one as a JPEG of quality 40 0.94 and
# more, at 64 px 0.84 and more.
COPY = 0.8
APART = 3.8  # in the spread of the base's faces. Measured: two pictures of a style at most 3.4; of two styles 4.3 up
LEAST = 1.5  # times the residual of the base's own faces: nearer than that there is no style. Watercolours from 1.8 up
STRANGE = 0.06  # of the side: landmarks of the inversion that far away are another face's
TURNED = 35.0  # degrees
ONE_SIDE = 12.0  # degrees that all faces are turned to one side
FEW = 4
GREY = 2.0  # a*, b* and their spreads together
USUAL_RUNGS = ("hog", "hog-fine", "hog-turned", "given", WHOLE)


@dataclass(frozen=True)
class Checked:
    """What was measured of one reference; None where it could not be.

    pixels: the width of the face's frame in the picture. yaw, roll: degrees. tone: the skin's ITA, degrees; lightness:
    the cheeks' L*. gender: as `sitters.gender` has it. color: L*, a*, b*, then their spreads. residual: perceptual
    distance to the in-domain inversion, in that of the base's own faces; percentile: among those. plausible: the
    percentile of the inversion among the base's faces by the discriminator's score. shift: how far the inversion's
    landmarks lie from the reference's, as a share of the side. copy_of, group: by number, the earlier reference it
    repeats, and its style's group.
    """

    name: str
    rung: str
    score: float | None
    pixels: int
    yaw: float | None
    roll: float | None
    tone: float | None
    lightness: float | None
    gender: float | None
    color: tuple[float, ...]
    residual: float
    percentile: float
    plausible: float | None
    shift: float | None
    copy_of: int | None
    group: int


@dataclass(frozen=True)
class Finding:
    """One thing that will go wrong (`warning`), or is worth knowing (`note`), and what to do about it."""

    code: str
    level: str
    message: str
    advice: str = ""


@dataclass(frozen=True)
class Preflight:
    """The references measured, and what follows. `inversions` are uint8 [R,R,3]: look at them beside the references."""

    references: list[Checked]
    findings: list[Finding]
    inversions: list[np.ndarray]
    perceptual: str

    def as_json(self) -> dict[str, Any]:
        return {"references": [vars(one) for one in self.references], "findings": [vars(f) for f in self.findings],
                "perceptual": self.perceptual, "faces_of_the_base": FACES}


def check(base: Base, references: Sequence[Reference], rejected: Sequence[InputError] = (), *,
          loss: losses.PerceptualLoss | None = None, identity: Identity | None = None) -> Preflight:
    """The references measured against the base. Takes seconds; draws nothing at random that training draws.

    WeightsError when nothing can compare pictures (`losses.best`).
    """
    loss, identity = loss or losses.best(base.discriminator, base.device), identity or Identity()
    pictures = [images.resize(one.face.image, base.resolution) for one in references]
    with torch.no_grad():
        ws = base.sample(FACES, seed=SEED, truncation=TRUNCATION)
        faces = torch.cat(list(finetuning.draw(base.generator.synthesis, ws)))
        scale, _ = _inverted(base, loss, faces)
        residuals, y = _inverted(base, loss, images.to_batch(pictures, base.device))
        scores, realism = (base.discriminator(x).flatten().cpu().numpy() if base.discriminator else None
                           for x in (faces, y))
    inversions = images.from_batch(y)
    copies = copies_of(pictures)
    groups = styles_of(base, pictures, images.from_batch(faces))
    checked = []
    for k, (one, picture) in enumerate(zip(references, pictures)):
        points = _landmarks(one, picture, identity)
        yaw, roll = sitters.pose(points) if points is not None else (None, None)
        cheeks = sitters.skin(picture, points) if points is not None else None
        drawn = identity.landmarks(inversions[k]) if points is not None else None
        shift = None if points is None or drawn is None else offset(drawn, points) / len(picture)
        checked.append(Checked(
            name=one.path.name, rung=one.rung, score=one.face.face.score if one.face.face else None,
            pixels=round(one.side), yaw=_rounded(yaw), roll=_rounded(roll),
            tone=None if cheeks is None else _rounded(sitters.typology_angle(cheeks)),
            lightness=None if cheeks is None else _rounded(cheeks[0]),
            gender=None if points is None else _rounded(sitters.gender(identity.descriptor(picture, points)), 2),
            color=tuple(round(float(v), 1) for v in appearance.color_statistics(picture)),
            residual=round(float(residuals[k] / np.median(scale)), 2),
            percentile=round(100 * float((scale < residuals[k]).mean())),
            plausible=None if scores is None or realism is None else round(100 * float((scores < realism[k]).mean())),
            shift=_rounded(shift, 3), copy_of=copies[k], group=groups[k]))
    return Preflight(checked, list(_findings(checked, rejected, base.resolution)), inversions, loss.name)


def _inverted(base: Base, loss: losses.PerceptualLoss, x: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """How far each picture is from its in-domain inversion, and the inversions."""
    ws = inversion.invert(base, x, in_domain=True)
    y = torch.cat(list(finetuning.draw(base.generator.synthesis, ws)))
    chunk = finetuning.at_once(base.resolution)
    distances = [loss.distance(loss.features(a), loss.features(b)) for a, b in zip(x.split(chunk), y.split(chunk))]
    return torch.cat(distances).cpu().numpy(), y


def _landmarks(one: Reference, picture: np.ndarray, identity: Identity) -> np.ndarray | None:
    """The face's landmarks [68,2] in pixels of its picture; looked for in one that came framed."""
    points = one.face.landmarks
    return identity.landmarks(picture) if points is None else on_size(points, len(one.face.image), len(picture))


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(float(value), digits)


# ---- the same picture, another style

def copies_of(pictures: Sequence[np.ndarray]) -> list[int | None]:
    """For each framed picture the number of the first one that it repeats, whatever its size, format or brightness."""
    outlines = [appearance.outline(picture) for picture in pictures]
    return [next((j for j in range(k) if float(x @ outlines[j]) >= COPY), None) for k, x in enumerate(outlines)]


def styles_of(base: Base, pictures: Sequence[np.ndarray], faces: Sequence[np.ndarray]) -> list[int]:
    """The group of each picture, 0 or 1, the first one's being 0; all 0 when they look like one style.

    Pictures are told apart by the means and spreads of the discriminator's first channels, in the spread of the
    base's faces, and by the logarithm of their chroma. The two groups are those of average linkage. Without a
    discriminator colours alone decide.
    """
    if len(pictures) < 2:
        return [0] * len(pictures)
    scale = np.stack([_numbers(base, face)[0] for face in faces])
    rows = [_numbers(base, picture) for picture in pictures]
    numbers = np.stack([row for row, _ in rows]) / (scale.std(0) + 1e-6)
    chroma = np.array([value for _, value in rows])
    distances = np.sqrt(((numbers[:, None] - numbers[None]) ** 2).mean(-1)) + np.abs(chroma[:, None] - chroma[None])
    one, other = _two_groups(distances)
    if distances[np.ix_(one, other)].mean() < APART:
        return [0] * len(pictures)
    return [0 if (k in one) == (0 in one) else 1 for k in range(len(pictures))]


def _numbers(base: Base, picture: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture's style as numbers [D], and the logarithm of its mean chroma."""
    lab = appearance.lab(images.resize(picture, appearance.SIDE))
    chroma = float(np.log1p(np.hypot(lab[..., 1], lab[..., 2]).mean()))
    if base.discriminator is None:
        return appearance.color_statistics(picture), chroma
    with torch.no_grad():
        taps = base.discriminator.features(images.to_batch([picture], base.device))[:2]
    values = torch.cat([part for x in taps for part in (x.mean((2, 3))[0], x.std((2, 3))[0])])
    return values.cpu().numpy(), chroma


def _two_groups(distances: np.ndarray) -> tuple[list[int], list[int]]:
    """The last two clusters of average linkage."""
    clusters = [[k] for k in range(len(distances))]
    while len(clusters) > 2:
        pairs = [(distances[np.ix_(a, b)].mean(), i, j) for j, b in enumerate(clusters) for i, a in
                 enumerate(clusters[:j])]
        _, i, j = min(pairs)
        clusters[i] += clusters.pop(j)
    return clusters[0], clusters[1]


# ---- what follows from it

def _named(found: Sequence[Checked]) -> str:
    names = [one.name for one in found]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _findings(checked: Sequence[Checked], rejected: Sequence[InputError], resolution: int) -> Iterator[Finding]:
    if rejected:
        total = len(checked) + len(rejected)
        yield Finding("unusable", "warning", f"{len(rejected)} of {total} pictures cannot be used",
                      "--landmarks FILE tells where a face is; --aligned takes framed pictures whole")
    copies = [one for one in checked if one.copy_of is not None]
    single = len(checked) - len(copies)
    if copies:
        yield Finding("copies", "warning", f"{len(checked)} references, but only {single} different: {_named(copies)} "
                      f"repeat{'s' if len(copies) == 1 else ''} another", "a picture given twice only weighs twice: "
                      "leave the copies out, or give others")
    if single == 1:
        yield Finding("one", "warning", "one reference: every portrait will take over some of its face and its hair",
                      "give 7 to 14 different people in the style")
    elif single < FEW:
        yield Finding("few", "note", f"{single} different references: what they have in common passes for the style",
                      "7 to 14 different people are better")
    if other := [one for one in checked if one.group]:
        yield Finding("styles", "warning", f"these look like two styles: {_named(other)} on the one hand, "
                      f"{_named([one for one in checked if not one.group])} on the other; the pack would be a mixture",
                      "train one pack for each, and blend them: --style a:0.5+b:0.5")
    if short := [one for one in checked if one.pixels < SHORT * resolution]:
        yield Finding("small", "warning", f"the face's frame has {min(one.pixels for one in short)} pixels in "
                      f"{_named(short)}, and the base draws {resolution}: enlarged, it has no strokes to learn",
                      "give larger pictures; the portraits come out soft otherwise")
    if odd := [one for one in checked if one.rung not in USUAL_RUNGS]:
        yield Finding("rung", "warning", f"the face was hard to find in {_named(odd)} ({odd[0].rung})",
                      "look at the sheet: if the frame is wrong, give --landmarks")
    if learnt := [one for one in checked if one.residual < LEAST]:
        yield Finding("photographs", "warning", f"{_named(learnt)}: hardly different from a face of the base, so that "
                      "there is little style to learn", "give drawings or paintings, not photographs")
    if strange := [one for one in checked if one.shift is not None and one.shift > STRANGE]:
        yield Finding("inversion", "warning", f"the base draws another face for {_named(strange)}: shapes of the "
                      "references will pass into the portraits", "look at the sheet; leave these out if it is so")
    if all(abs(one.color[1]) + abs(one.color[2]) + one.color[4] + one.color[5] < GREY for one in checked):
        yield Finding("grey", "note", "the references have no colour: the portraits will be grey",
                      "--keep-color keeps the photograph's")
    yield from _of_sitters(checked)


def _of_sitters(checked: Sequence[Checked]) -> Iterator[Finding]:
    """What the people in the references are, and are not."""
    faces = [one for one in checked if one.yaw is not None]
    if far := [one for one in faces if one.yaw is not None and abs(one.yaw) > TURNED]:
        yield Finding("turned", "warning", f"turned far aside: {_named(far)}", "faces from the front teach more")
    side = sorted(one.yaw for one in faces if one.yaw is not None)
    if len(side) >= FEW and (side[0] > ONE_SIDE or side[-1] < -ONE_SIDE):
        where = "left" if side[0] > 0 else "right"
        yield Finding("one-side", "warning", f"all faces look to the viewer's {where}: light and shadow of the other "
                      "side were never seen", "mirror some of the references")
    tones = [one.tone for one in faces if one.tone is not None]
    words = {sitters.tone(angle) for angle in tones}
    if tones and min(tones) >= 28:
        yield Finding("skin", "warning", f"all skin in the references is light (ITA {min(tones):.0f}° to "
                      f"{max(tones):.0f}°): dark skin will come out lighter than it is", "give people of all skins too")
    elif tones and max(tones) < 10:
        yield Finding("skin", "warning", f"all skin in the references is dark (ITA {min(tones):.0f}° to "
                      f"{max(tones):.0f}°): light skin will come out darker than it is", "give people of all skins too")
    elif tones:
        yield Finding("skin", "note", f"skin: {', '.join(word for _, word in sitters.TONES if word in words)}")
    if len(tones) < len(checked):
        grey = [one.lightness for one in faces if one.tone is None and one.lightness is not None]
        told = f"; cheeks have L* {min(grey):.0f} to {max(grey):.0f}" if grey else ""
        yield Finding("skin-unknown", "note", f"no skin tone can be told in {len(checked) - len(tones)} of "
                      f"{len(checked)}: no face was found in the frame, or it has no colour{told}")
    yield _of_gender(checked)
    yield Finding("not-measured", "note", "whether there are young and old is not measured",
                  "look at the sheet: give all whom you will draw")


def _of_gender(checked: Sequence[Checked]) -> Finding:
    """Whether there are women and men, as far as different faces read as either."""
    single = [one for one in checked if one.copy_of is None]
    women = [one for one in single if one.gender is not None and one.gender >= sitters.TOLD]
    men = [one for one in single if one.gender is not None and one.gender <= -sitters.TOLD]
    told = women + men
    if women and men:
        return Finding("gender", "note", f"faces that read as women's: {len(women)}, as men's: {len(men)}, of "
                       f"{len(single)} different ones")
    if len(told) > 1:
        these, others = ("women", "men") if women else ("men", "women")
        return Finding("gender", "warning", f"all faces whose gender can be told read as {these} ({len(told)} of "
                       f"{len(single)}): {_named(told)}; what the style makes of {others} was never seen",
                       "give women and men")
    return Finding("gender", "note", "whether there are women and men cannot be told (faces that read clearly as "
                   f"either: {len(told)} of {len(single)})", "look at the sheet: give both")
