"""`sigan train`: a style pack from a few references."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from sigan.cli import options
from sigan.errors import ConfigError, NoFaceError


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the style will be called.")],
    refs: Annotated[list[str], typer.Argument(metavar="REFS...", help="Pictures or folders in one style.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the pack here only.")] = None,
    recipe: Annotated[str, typer.Option("--recipe", metavar="sigan|styleidentity|jojogan",
                                             help="What is minimised.")] = "sigan",
    kind: Annotated[str | None, typer.Option("--kind", metavar="sketch|cartoon", help="Decides the steps.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimiser steps.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", metavar="0..1", help="The α of Eq. 1.")] = None,
    swap_layers: Annotated[
        str | None, typer.Option("--swap-layers", metavar="7,9,…", help="Style layers, counted on 18.")
    ] = None,
    lambda_feature: Annotated[
        float | None, typer.Option("--lambda-feature", metavar="L", help="Weight of the identity term, Eq. 2.")
    ] = None,
    lambda_statistics: Annotated[
        float | None, typer.Option("--lambda-statistics", metavar="L", help="Weight of the distribution term.")
    ] = None,
    photos: Annotated[str | None, typer.Option("--photos", metavar="IN", help="People the style must keep.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Adam's step size.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of the pack; default: the base's.")
    ] = None,
    references_licence: Annotated[
        str, typer.Option("--references-licence", metavar="TEXT", help="Under which you use the references.")
    ] = "",
    author: Annotated[str, typer.Option("--author", metavar="TEXT", help="Who made the style.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Keep all in fp16: four times as large, no better.")] = False,
    preview: Annotated[Path | None, typer.Option("--preview", metavar="DIR", help="Where the sheet goes.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what will go wrong with these references.")] = False,
    landmarks: Annotated[
        Path | None, typer.Option("--landmarks", metavar="FILE.json", help="{\"a.jpg\": [[x, y], ...]}: 68 points of "
                                  "faces that are not found.")
    ] = None,
    aligned: options.Aligned = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a style or file of that name.")] = False,
    base: options.Base = "mini",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Learns a style from a few references.

    It is installed as pack NAME, unless --out names a file. One reference is enough, 7 to 14 are better.
    """
    from sigan import bases, runtime
    from sigan.cli import preflight, render
    from sigan.preflight import check as check_references
    from sigan.training import StyleTrainer, TrainConfig

    given = {"kind": kind, "steps": steps, "alpha": alpha, "lambda_feature": lambda_feature,
             "lambda_statistics": lambda_statistics, "lr": lr, "swap_layers": _layers(swap_layers)}
    given = {key: value for key, value in given.items() if value is not None}
    config = TrainConfig(recipe=recipe, seed=seed, device=device, **given)
    if not check:
        _check_free(name, out, overwrite)
    _check_texts(licence=licence or "", references_licence=references_licence, author=author)
    model = bases.load(base, device=runtime.resolve_device(device))

    found, rejects = preflight.gather(refs, model.resolution, aligned=aligned, landmarks=landmarks)
    checked = check_references(model, found, rejects)
    faces = [one.face.image for one in found]
    sheet = preflight.sheet((preview or runtime.home() / "previews" / name) / "references.png",
                            {"references": faces, "inversions": checked.inversions}, model.resolution)
    preflight.show(checked, quiet, whole=check)
    render.note(f"references beside their inversions: {sheet}", quiet)
    if check:
        if json:
            render.data({**checked.as_json(), "rejected": [error.message for error in rejects], "base": model.name,
                         "sheet": sheet})
        return
    people, _ = preflight.gather([photos], model.resolution, aligned=aligned, what="photos") if photos else ((), ())
    trainer = StyleTrainer(faces, config, base=model, photos=[one.face.image for one in people])
    render.note(f"perceptual loss: {trainer.loss_name}; references: {len(faces)}", quiet)

    last = None
    for step in render.progress(trainer.steps(), config.steps, f"train {name}", quiet):
        last = step
    facts = {"licence": licence or model.licence, "references_licence": references_licence, "author": author}
    pack = trainer.pack(name, compact=not full, **facts)
    pack = replace(pack, manifest=replace(pack.manifest, figures=_figures(trainer, pack)))
    path = _keep(pack, name, out, overwrite)
    for line in _told(pack.manifest):
        render.note(line, quiet)
    render.note(f"{path}: {len(pack.deltas)} weights differ from {model.name}; try: sigan stylize --style "
                f"{out or name} IN OUT", quiet)
    if json:
        render.data({"name": name, "output": path, "references": len(faces), "rejected": [e.message for e in rejects],
                     "steps": last.total if last else 0, "loss": last.loss if last else None, "sheet": sheet,
                     "perceptual": trainer.loss_name, "base": model.name, "seed": seed,
                     "figures": pack.manifest.figures})


def _layers(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--swap-layers is {text!r}; it must be like 7,9,11,15,16,17") from error


def _check_free(name: str, out: Path | None, overwrite: bool) -> None:
    """Refuses, before anything is computed, a name or file that cannot be written in the end."""
    from sigan import runtime, stream, styles

    if not styles.NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a style", "use letters, digits, '.', '_' and '-'")
    stream.check_output(out.parent if out else runtime.home())
    taken = out.exists() if out else name in styles.installed()
    if taken and not overwrite:
        what = f"{out} exists" if out else f"a style called '{name}' is installed"
        raise ConfigError(f"{what} already", "--overwrite replaces it; or choose another name")


def _check_texts(**texts: str) -> None:
    """Refuses, before anything is computed, what a manifest may not hold."""
    from sigan import manifest

    for name, text in texts.items():
        if not manifest.printable(text) or len(text) > manifest.MAX_TEXT:
            raise ConfigError(f"--{name.replace('_', '-')} is {manifest.quoted(text)}",
                              f"give one line of printable text, at most {manifest.MAX_TEXT} characters")


def _figures(trainer, pack) -> dict:
    """What the pack does to faces of the base: how near to the references they come, and who they stay."""
    import numpy as np

    from sigan.alignment import AlignedFace
    from sigan.identity import Identity

    trial, identity, distances = trainer.trial(pack), Identity(), []
    for face, portrait in zip(trial.faces, trial.portraits):
        corners = [[0, 0], [0, len(face)], [len(face), len(face)], [len(face), 0]]
        with contextlib.suppress(NoFaceError):
            distances.append(identity.compare(portrait, AlignedFace(face, np.float32(corners))).distance)
    figures = {"style": {"value": round(trial.after, 4), "before": round(trial.before, 4), "faces": len(trial.faces),
                         "by": f"distribution distance to the references, {trainer.loss_name}"}}
    if distances:
        figures["identity"] = {"value": round(median(distances), 4), "faces": len(distances),
                               "by": "dlib distance before and after, median over faces of the base"}
    return figures


def _told(manifest) -> Iterator[str]:
    """The figures, and what is to be said of the licences, in lines."""
    for name, figure in manifest.figures.items():
        before = f", {figure['before']:g} before" if "before" in figure else ""
        yield f"{name}: {figure['value']:g}{before} ({figure['by']}; N = {figure['faces']})"
    if manifest.licence != manifest.base_licence:
        yield f"the pack's licence is {manifest.licence}; its base, from which it derives, has {manifest.base_licence}"
    if not manifest.references_licence:
        yield "the licence of the references is not declared: --references-licence"


def _keep(pack, name: str, out: Path | None, overwrite: bool) -> Path:
    """Writes the pack to `out`, or installs it; gives the path."""
    import tempfile

    from sigan import styles

    if out:
        pack.save(out)
        return out
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}{styles.SUFFIX}")
        pack.save(path)
        return styles.install(path, name, force=overwrite).path
