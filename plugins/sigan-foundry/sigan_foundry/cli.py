"""`sigan foundry`: pack, start, gan, encoder, evaluate, export, gender. Slices end by themselves; the next goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.errors import ConfigError, InputError, OutputError, SiganError, WeightsError

if TYPE_CHECKING:
    from sigan_foundry.checks import Fault
    from sigan_foundry.state import Run

app = typer.Typer(help="Trains a base from aligned portraits.", no_args_is_help=True, add_completion=False,
                  rich_markup_mode=None)
State = Annotated[Path, typer.Argument(help="The training state, a safetensors file.")]
Packed = Annotated[Path, typer.Argument(help="Faces written by `pack`.")]
Trunk = Annotated[Path, typer.Option("--perceptual", help="squeezenet1_1.safetensors, for the feature loss.")]
Seconds = Annotated[float, typer.Option("--seconds", help="How long this slice may take.")]
Device = Annotated[str, typer.Option("--device")]
Threads = Annotated[int, typer.Option("--threads", help="CPU threads; 0: as many as there are.")]
LOG_EVERY, GRID_FACES = 25, 14  # steps a line of the log; columns of a grid


@app.callback()
def foundry(context: typer.Context) -> None:
    """Trains a base from aligned portraits."""
    context.call_on_close(_keep_denormals)


def _keep_denormals() -> None:
    """Whoever runs a command inside a larger program finds its numbers as they were."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@app.command()
def pack(sources: Annotated[list[Path], typer.Argument(help="Tar files or folders.")],
         out: Annotated[Path, typer.Option("--out")], size: Annotated[int, typer.Option("--size")] = 128) -> None:
    """Decodes aligned faces once, into one file of uint8 tensors; lists what it leaves out, and exits with 3 then."""
    from sigan_foundry import checks, data

    faults = checks.check(sources)
    _list(faults)
    counts = data.pack(sources, out, size, {(fault.source, fault.name) for fault in faults})
    for name, count in counts.items():
        typer.echo(f"{name}: {count} faces", err=True)
    if faults:
        raise typer.Exit(InputError.exit_code)


@app.command()
def check(sources: Annotated[list[Path], typer.Argument(help="Tar files, folders, or files written by `pack`.")],
          ) -> None:
    """Lists unreadable, tiny, colourless and duplicate faces; exits with 3 when there are any."""
    from sigan_foundry import checks

    faults = checks.check(sources)
    _list(faults)
    if faults:
        raise typer.Exit(InputError.exit_code)


@app.command()
def start(state: State, packed: Packed, seed: Annotated[int, typer.Option("--seed")] = 0,
          channel_base: Annotated[int, typer.Option("--channel-base")] = 2048,
          channel_max: Annotated[int, typer.Option("--channel-max")] = 128,
          luma: Annotated[int, typer.Option("--luma", help="Brightness components of a code.")] = 1024,
          chroma: Annotated[int, typer.Option("--chroma", help="Colour components.")] = 256,
          canvas_size: Annotated[int, typer.Option("--canvas", help="Side of the canvas, in pixels.")] = 64,
          anchors: Annotated[int, typer.Option("--anchors", help="Faces of nobody that the mapping blends.")] = 1024,
          z_dim: Annotated[int, typer.Option("--z-dim")] = 32) -> None:
    """Makes a state in closed form: principal components of the faces, and a mapping to faces of nobody."""
    from sigan.nets.compact_encoder import EncoderConfig
    from sigan.nets.discriminator import DiscriminatorConfig
    from sigan.nets.stylegan2 import GeneratorConfig
    from sigan_foundry import canvas, data, perceptual
    from sigan_foundry.state import Run

    faces = data.Faces(packed)
    g = GeneratorConfig(resolution=faces.resolution, w_dim=luma + chroma, z_dim=z_dim, mapping_layers=0,
                        mapping_anchors=anchors, channel_base=channel_base, channel_max=channel_max,
                        canvas_resolution=canvas_size, canvas_luma=luma)
    d = DiscriminatorConfig(resolution=g.resolution, channel_base=channel_base, channel_max=channel_max)
    e = EncoderConfig(resolution=g.resolution, num_ws=g.num_ws, w_dim=g.w_dim, luma=luma,
                      canvas_resolution=canvas_size)
    run = Run.new(g, d, e, perceptual.TAP_CHANNELS[:4], seed)
    canvas.start(run.generator, run.encoder, faces)
    run.ema.load_state_dict(run.generator.state_dict())
    run.save(state)


@app.command()
def grow(state: State, packed: Packed,
         out: Annotated[Path, typer.Argument(help="The larger net's state.")]) -> None:
    """Doubles a state's resolution to that of the faces, keeping what it learned."""
    from sigan_foundry import data, growth
    from sigan_foundry.state import Run

    growth.grow(Run.load(state), data.Faces(packed)).save(out)


@app.command()
def gan(state: State, packed: Packed, trunk: Trunk, seconds: Seconds = 570, device: Device = "cpu",
        batch: Annotated[int, typer.Option("--batch")] = 8, lr: Annotated[float, typer.Option("--lr")] = 1.5e-3,
        bfloat16: Annotated[bool, typer.Option("--bfloat16")] = False, threads: Threads = 0,
        save_every: Annotated[float, typer.Option("--save-every", help="Seconds between saves and grids.")] = 300,
        check: Annotated[bool, typer.Option("--check", help="Only look at state and faces: exits with 3 when faces "
                                            "should not be trained on.")] = False) -> None:
    """Trains generator and discriminator on redrawing real faces; writes the state, a log and grids beside it.

    A loss or weight that is not finite, or a full disk, ends it; the state is then as it was saved last.
    """
    import time

    from sigan_foundry import checks, perceptual
    from sigan_foundry.gan import GanConfig, GanTrainer

    run, faces = _open(state, packed, threads)
    if check:
        faults = checks.check([packed])
        _list(faults)
        raise typer.Exit(InputError.exit_code if faults else 0)
    config = GanConfig(batch=batch, lr=lr, device=device, bfloat16=bfloat16)
    trainer = GanTrainer(run, faces, perceptual.SqueezeNet.load(trunk), config)
    sums, saved = {}, time.monotonic()
    try:
        for index, step in enumerate(trainer.steps(seconds), 1):
            for name, value in step.losses.items():
                sums.setdefault(name, []).append(value)
            if index % LOG_EVERY == 0:
                means = " ".join(f"{name} {sum(v) / len(v):.4f}" for name, v in sums.items())
                _log(state, f"{step.pictures} pictures, {step.pictures_per_second:.1f}/s: {means}")
                sums = {}
            if time.monotonic() - saved > save_every:
                _save(run, state, faces)
                saved = time.monotonic()
    except (OutputError, WeightsError):  # these tell of the file themselves
        raise
    except SiganError as error:
        raise SiganError(f"{error.message}; {state} is as it was saved last", error.hint) from error
    _save(run, state, faces)


@app.command()
def encoder(state: State, packed: Packed, seconds: Seconds = 570, device: Device = "cpu", threads: Threads = 0) -> None:
    """Trains the encoder's in-domain half on simulated drawings."""
    from sigan_foundry import encoder as training

    run, faces = _open(state, packed, threads)
    losses = []
    for step in training.steps(run, faces, training.EncoderTraining(device=device), seconds):
        losses.append(step.loss)
        if len(losses) == LOG_EVERY:
            _log(state, f"encoder, {step.pictures} pictures, {step.pictures_per_second:.1f}/s: "
                        f"loss {sum(losses) / len(losses):.4f}")
            losses = []
    run.save(state)


@app.command()
def evaluate(base: Annotated[str, typer.Argument(help="A base by name.")], faces: Annotated[Path, typer.Argument(
        help="Validation faces: tar file or folder.")], trunk: Trunk,
        out: Annotated[Path, typer.Option("--grids", help="The folder of the sheets.")],
        card: Annotated[Path | None, typer.Option("--card", help="Write the figures as Markdown, too.")] = None,
        drawings: Annotated[Path | None, typer.Option("--drawings", help="Drawings to invert in-domain.")] = None,
        packed: Annotated[Path | None, typer.Option("--pca", help="Packed training faces: fit the closed-form "
                                                    "yardstick on them, some minutes.")] = None,
        limit: Annotated[int, typer.Option("--limit", help="At most so many faces; 0: all.")] = 0,
        samples: Annotated[int, typer.Option("--samples", help="Faces drawn at each truncation.")] = 500,
        refine: Annotated[int, typer.Option("--refine", help="Steps; 0: no refinement.")] = 100,
        refine_faces: Annotated[int, typer.Option("--refine-faces", help="How many of the faces are refined.")] = 40,
        device: Device = "cpu", threads: Threads = 0) -> None:
    """Prints the figures of the model card as JSON, writes sheets, and the card's tables if asked."""
    import json

    from sigan import bases, images
    from sigan_foundry import evaluation, perceptual
    from sigan_foundry.card import card as tables

    _prepare(threads)
    config = evaluation.EvaluationConfig(limit=limit, samples=samples, refine=refine, refine_faces=refine_faces,
                                         packed=packed, drawings=drawings)
    figures = {}
    for name, part in evaluation.evaluate(bases.load(base, device), faces, perceptual.SqueezeNet.load(trunk), out,
                                          config):
        figures[name] = part
        typer.echo(f"{name}: {json.dumps(part)}", err=True)
    if card:
        images.atomic_write(card, tables(figures).encode())
    typer.echo(json.dumps(figures, indent=1))


@app.command()
def export(state: State, folder: Annotated[Path, typer.Argument(help="Where the three files go.")],
           licence: Annotated[str, typer.Option("--licence")] = "CC BY-NC-SA 4.0") -> None:
    """Writes the average generator, the discriminator and the encoder as a base's files, in 16 bit."""
    from sigan import bases
    from sigan_foundry.state import Run

    run = Run.load(state)
    folder.mkdir(parents=True, exist_ok=True)
    for name, net in (("generator", run.ema), ("discriminator", run.discriminator), ("encoder", run.encoder)):
        bases.write_net(net, folder / f"{name}.safetensors", licence)


@app.command()
def gender(sources: Annotated[list[Path], typer.Argument(help="Tar files or folders that hold the labelled faces.")],
           out: Annotated[Path, typer.Option("--out", help="The safetensors file to write.")]) -> None:
    """Fits what `sigan train --check` tells women's faces from men's by; prints how far that agrees with labels by eye.

    Faces of `validation` are only asked: nothing is fitted to them.
    """
    import json

    from sigan import sitters
    from sigan_foundry import gender as fitting

    faces = fitting.describe(sources)
    x, women = fitting.labelled(faces)
    held, truth = fitting.labelled(faces, held=True)
    direction = fitting.fit(x, women)
    direction.write(out, len(x))
    typer.echo(json.dumps({
        "cross-validated": fitting.agreement(fitting.cross_validated(x, women), women, sitters.TOLD),
        "held aside": fitting.agreement(direction(held), truth, sitters.TOLD)}, indent=1))


def _prepare(threads: int) -> None:
    """Sets torch's CPU threads; denormals cost half the time, since the first convolutions draw almost nothing."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def _open(state: Path, packed: Path, threads: int):

    from sigan_foundry import data
    from sigan_foundry.state import Run

    _prepare(threads)
    run = Run.load(state)
    faces, side = data.Faces(packed, seed=run.facts["pictures"]), run.generator.config.resolution
    if faces.resolution != side:
        raise ConfigError(f"{packed} holds faces of {faces.resolution} pixels, {state} is of {side}",
                          f"pack them with --size {side}, or grow the state")
    return run, faces


def _list(faults: list[Fault]) -> None:
    """One line a face that should not be trained on, on stdout."""
    for fault in faults:
        typer.echo(f"{fault.source}: {fault.name}: {fault.reason}")
    typer.echo(f"{len(faults)} faces should not be trained on", err=True)


def _log(state: Path, text: str) -> None:
    try:
        with state.with_suffix(".log").open("a") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise OutputError(f"{state.with_suffix('.log')} cannot be written ({error.strerror})",
                          "make room on the disk") from error


def _save(run: Run, state: Path, faces) -> None:
    """The state, and a grid: faces of the set, redrawn, and faces of nobody."""
    import torch

    from sigan_foundry import data, grids

    run.save(state)
    with torch.no_grad():
        device = next(run.ema.parameters()).device
        x = data.to_float(faces.sharp[:: max(1, len(faces.sharp) // GRID_FACES)][:GRID_FACES]).to(device)
        z = torch.randn(GRID_FACES, run.ema.config.z_dim, generator=torch.Generator().manual_seed(1)).to(device)
        rows = [x, run.ema.synthesis(run.encoder(x)), run.ema(z, truncation=0.7), run.ema(z)]
    grids.write(rows, state.with_name(f"{state.stem}-{run.facts['pictures']:08d}.png"))
