"""`sigan train`: a style pack from a few references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sigan.cli import options
from sigan.errors import ConfigError


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What the style will be called.")] = None,
    refs: Annotated[
        list[str] | None, typer.Argument(metavar="REFS...", help="Pictures or folders in one style.")
    ] = None,
    person: Annotated[
        Path | None, typer.Option("--person", metavar="PHOTO", help="Instead of REFS: sharpen this person's likeness "
                                  "on top of --style, for stylize --person NAME.")
    ] = None,
    style: Annotated[str, typer.Option("--style", metavar="NAME", autocompletion=options.style_names,
                                       help="The style that --person is for.")] = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the pack here only.")] = None,
    recipe: Annotated[str, typer.Option("--recipe", metavar="sigan|styleidentity|jojogan",
                                        help="What is minimised.")] = "sigan",
    kind: Annotated[str | None, typer.Option("--kind", metavar="sketch|cartoon", help="Decides the steps.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimiser steps, at most.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", metavar="0..1", help="The α of Eq. 1.")] = None,
    swap_layers: Annotated[
        str | None, typer.Option("--swap-layers", metavar="7,9,…", help="Style layers, counted on 18; 7-17 is a range.")
    ] = None,
    random_codes: Annotated[str | None, typer.Option("--random-codes", metavar="one|layers", help="The random code of "
                                                     "Eq. 1: one for all layers, or one for each.")] = None,
    lambda_feature: Annotated[
        float | None, typer.Option("--lambda-feature", metavar="L", help="Weight of the identity term, Eq. 2.")
    ] = None,
    lambda_statistics: Annotated[
        float | None, typer.Option("--lambda-statistics", metavar="L", help="Weight of the distribution term.")
    ] = None,
    skin_tone: Annotated[float | None, typer.Option("--skin-tone", metavar="SHARE", help="How much of their own skin's "
                                                    "tone people keep; 0: all get the references'.")] = None,
    perceptual: Annotated[str | None, typer.Option("--perceptual", metavar="auto|lpips|discriminator|squeezenet",
                                                   help="What compares pictures; or squeezenet:FILE.")] = None,
    train_from: Annotated[int | None, typer.Option("--train-from", metavar="PX", help="Train the layers of this "
                                                   "resolution and finer; 4 is all: bolder, and less alike.")] = None,
    photos: Annotated[str | None, typer.Option("--photos", metavar="IN", help="People the style must keep.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Adam's step size.")] = None,
    measure: Annotated[int | None, typer.Option("--measure", metavar="N", help="Steps between two measurements on "
                                                "faces held aside; 0: none.")] = None,
    id_floor: Annotated[float | None, typer.Option("--id-floor", metavar="D", help="The dlib distance that people may "
                                                   "not pass: it stops there, and keeps what is nearer.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of the pack; default: the base's.")
    ] = None,
    references_licence: Annotated[
        str, typer.Option("--references-licence", metavar="TEXT", help="Under which you use the references.")
    ] = "",
    author: Annotated[str, typer.Option("--author", metavar="TEXT", help="Who made the style.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Keep all in fp16: four times as large, no better.")] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", metavar="DIR", help="Where sheet, strips and curve go as they come.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what will go wrong with these references.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained, and where to.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this training was interrupted.")] = False,
    landmarks: Annotated[
        Path | None, typer.Option("--landmarks", metavar="FILE.json", help='{"a.jpg": [[x, y], ...]}: 68 points of '
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

    It is installed as pack NAME, unless --out names a file. One reference is enough, 7 to 14 are better. Ctrl-C keeps
    the best so far, and --resume goes on. With --person PHOTO --style NAME it sharpens one person's likeness instead.
    """
    if person:
        from sigan.cli import person as one_person

        one_person.train(name, refs or [], person, style, out, steps, preview, landmarks, aligned, overwrite, base,
                         device, json, quiet)
        return
    if not name or not refs or style:
        raise ConfigError("NAME and REFS are needed" if not style else "--style goes with --person PHOTO",
                          "sigan train ink drawings/, or sigan train --person me.jpg --style watercolor")
    from sigan import bases, runtime
    from sigan.cli import preflight, render, session
    from sigan.preflight import check as check_references
    from sigan.training import StyleTrainer, TrainConfig

    given: dict[str, Any] = {"kind": kind, "steps": steps, "alpha": alpha, "lambda_feature": lambda_feature,
             "lambda_statistics": lambda_statistics, "lr": lr, "swap_layers": _layers(swap_layers), "measure": measure,
             "random_codes": random_codes, "perceptual": perceptual, "train_from": train_from, "id_floor": id_floor,
             "skin_tone": skin_tone}
    config = TrainConfig(recipe=recipe, seed=seed, device=device,
                         **{key: value for key, value in given.items() if value is not None})
    if not check:
        session.check_free(name, out, overwrite)
    session.check_texts(licence=licence or "", references_licence=references_licence, author=author)
    model = bases.load(base, device=runtime.resolve_device(device))

    found, rejects = preflight.gather(refs, model.resolution, aligned=aligned, landmarks=landmarks)
    told = {"references": len(found), "rejected": [error.message for error in rejects], "base": model.name}
    folder = preview or runtime.home() / "previews" / name
    if not dry_run:
        checked = check_references(model, found, rejects)
        sheet = preflight.sheet(folder / "references.png", {"references": [one.face.image for one in found],
                                                            "inversions": checked.inversions}, model.resolution)
        preflight.show(checked, quiet, whole=check)
        render.note(f"references beside their inversions: {sheet}", quiet)
        told["sheet"] = sheet
    if check:
        if json:
            render.data({**told, **checked.as_json()})
        return
    people, _ = preflight.gather([photos], model.resolution, aligned=aligned, what="photos") if photos else ((), ())
    trainer = StyleTrainer([one.face.image for one in found], config, base=model,
                           photos=[one.face.image for one in people])
    render.note(f"perceptual loss: {trainer.loss_name}; references: {len(found)}", quiet)
    if trainer.people is not None and not people:
        render.note("people: faces of nobody; --photos of real people make finer styles", quiet)
    run = session.Session(trainer, name, folder if preview else None, quiet)
    if dry_run:
        plan = run.plan(out)
        render.note(", ".join(f"{key}: {value}" for key, value in plan.items()), quiet)
        if json:
            render.data({**told, **plan})
        return

    facts = {"licence": licence or model.licence, "references_licence": references_licence, "author": author}
    last = run.train(resume, lambda: trainer.pack(name, compact=not full, **facts))
    kept = trainer.settle()
    pack = trainer.pack(name, compact=not full, **facts)
    pack = replace(pack, manifest=replace(pack.manifest, figures=trainer.figures(pack)))
    path = session.keep(pack, name, out, overwrite)
    run.finished()
    for line in session.told(pack.manifest):
        render.note(line, quiet)
    render.note(f"{path}: {len(pack.deltas)} weights differ from {model.name}; try: sigan stylize --style "
                f"{out or name} IN OUT", quiet)
    if json:
        render.data({"name": name, "output": path, **told, "steps": last.index if last else trainer.done, "kept": kept,
                     "loss": last.loss if last else None, "stopped": trainer.stopped, "seed": seed,
                     "perceptual": trainer.loss_name, "figures": pack.manifest.figures})


def _layers(text: str | None) -> tuple[int, ...] | None:
    """Numbers and ranges, as in 7,9,15-17."""
    try:
        if text is None:
            return None
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        return tuple(layer for first, *last in ends for layer in range(first, (last[0] if last else first) + 1))
    except ValueError as error:
        raise ConfigError(f"--swap-layers is {text!r}; it must be like 7,9,11,15-17") from error
