"""A training as it is watched: its state on disk, strips and curve as they come, what remains when it is cut off."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigan.cli import render
from sigan.errors import ConfigError, SiganError

if TYPE_CHECKING:
    import numpy as np

    from sigan.events import TrainStep
    from sigan.packs import PackManifest, StylePack
    from sigan.training import StyleTrainer

SAVE_EVERY = 20.0  # seconds between two states on disk: what a kill can cost
MAX_CELL = 192  # px of a face in a strip


class Session:
    """One training: `train` runs it; `finished` takes its state away. Nothing is written before the first step."""

    def __init__(self, trainer: StyleTrainer, name: str, preview: Path | None, quiet: bool):
        from sigan import states

        self.trainer, self.name, self.preview, self.quiet = trainer, name, preview, quiet
        self.path = states.path(name, trainer.key)
        self._rows: list[tuple[str, Sequence[np.ndarray]]] = []

    def plan(self, out: Path | None) -> dict[str, object]:
        """What would be trained, and where it would go."""
        from sigan import runtime, styles

        config = self.trainer.config
        return {"recipe": config.recipe, "steps": config.steps, "measure": config.measure, "seed": config.seed,
                "perceptual": self.trainer.loss_name, "layers": list(self.trainer.layers),
                "output": str(out or runtime.home() / "styles" / f"{self.name}{styles.SUFFIX}"),
                "resumable": str(self.path) if self.path.exists() else None}

    def train(self, resume: bool, pack: Callable[[], StylePack]) -> TrainStep | None:
        """The last step. Ctrl-C and errors of the training leave the best so far as a pack, and are raised again."""
        if resume:
            self._resume()
        elif self.path.exists():
            render.note(f"note: an interrupted training of this style is here; --resume goes on with it: {self.path}",
                        self.quiet)
        last, saved = None, time.monotonic()
        shown = render.training(self.trainer.steps(), self.trainer.curve, f"train {self.name}", self.quiet)
        try:
            with _between_steps() as interrupt, contextlib.closing(shown):
                for last in shown:
                    if last.measured and self.preview:
                        self._draw(last, self.preview)
                    if time.monotonic() - saved > SAVE_EVERY:
                        self._save()
                        saved = time.monotonic()
                    interrupt()
        except AtOnce:
            raise KeyboardInterrupt from None
        except KeyboardInterrupt:
            if self.trainer.done:
                self._save()
                self._rescue(pack)
                render.note("the same command with --resume goes on from here")
            raise
        except SiganError:
            if self.trainer.curve.points:  # what was not measured may be as wild as what made it stop
                self._rescue(pack)
            raise
        if self.trainer.stopped:
            render.note(f"stopped at step {self.trainer.done}: {self.trainer.stopped}", self.quiet)
        return last

    def finished(self) -> None:
        """The pack is kept: the state is of no use any more."""
        self.path.unlink(missing_ok=True)
        self._best_path().unlink(missing_ok=True)

    def _resume(self) -> None:
        from sigan import states

        if not self.path.exists():
            render.note(f"note: there is nothing to resume for '{self.name}' with these references and options: it "
                        "begins anew", self.quiet)
            return
        self.trainer.load_state(states.read(self.path))
        render.note(f"resumed at step {self.trainer.done} of {self.trainer.end}", self.quiet)

    def _save(self) -> None:
        from sigan import states

        states.write(self.path, self.trainer.state())

    def _best_path(self) -> Path:
        return self.path.with_name(f"{self.name}.best.safetensors")

    def _rescue(self, pack: Callable[[], StylePack]) -> None:
        """Keeps the best point so far as a pack beside the state."""
        trainer = self.trainer
        try:
            step = trainer.settle()
            if not step:
                return
            pack().save(self._best_path())
        except SiganError as error:
            render.note(f"nothing of it can be kept: {error.message}")
            return
        render.note(f"the best so far, of step {step}: {self._best_path()}; keep it: sigan styles install "
                    f"{self._best_path()} --name {self.name}")

    def _draw(self, step: TrainStep, folder: Path) -> None:
        """Writes the strip of this measurement, all strips so far on one sheet, and the curve."""
        from sigan import charts, images

        trainer, cell = self.trainer, min(self.trainer.base.resolution, MAX_CELL)
        self._rows = self._rows or [("faces", trainer.trials.faces)]
        self._rows.append((f"step {step.index}", trainer.portraits))
        strip = images.contact_sheet([trainer.trials.faces, trainer.portraits], cell=cell)
        images.write(folder / f"step-{step.index:04d}.png", strip)
        images.write(folder / "steps.png", images.contact_sheet(
            [row for _, row in self._rows], [label for label, _ in self._rows], cell))
        curve, best = trainer.curve, trainer.curve.best()
        spots = [(point.identity or 0.0, point.style / max(curve.before, 1e-9)) for point in curve.points]
        marked = curve.points.index(best) if best else None
        images.write(folder / "curve.png", charts.curve(
            spots, [str(point.step) for point in curve.points], ("identity: dlib distance to oneself, less is nearer",
                                                                 "style: share of the way left, less is nearer"),
            marked, curve.floor))


class AtOnce(KeyboardInterrupt):
    """A second Ctrl-C: weights and optimiser may not belong together."""


@contextlib.contextmanager
def _between_steps() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt if Ctrl-C was pressed; called between two steps, nothing is torn."""
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        if heard:
            raise AtOnce
        heard.append(number)
        render.note("stopping after this step; Ctrl-C again stops at once, and keeps what was written last")

    def interrupt() -> None:
        if heard:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # no other may listen
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


# ---- before and after

def check_free(name: str, out: Path | None, overwrite: bool) -> None:
    """Refuses, before anything is computed, a name or file that cannot be written in the end."""
    from sigan import runtime, stream, styles

    if not styles.NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a style", "use letters, digits, '.', '_' and '-'")
    stream.check_output(out.parent if out else runtime.home())
    taken = out.exists() if out else name in styles.installed()
    if taken and not overwrite:
        what = f"{out} exists" if out else f"a style called '{name}' is installed"
        raise ConfigError(f"{what} already", "--overwrite replaces it; or choose another name")


def check_texts(**texts: str) -> None:
    """Refuses, before anything is computed, what a manifest may not hold."""
    from sigan import manifest

    for name, text in texts.items():
        if not manifest.printable(text) or len(text) > manifest.MAX_TEXT:
            raise ConfigError(f"--{name.replace('_', '-')} is {manifest.quoted(text)}",
                              f"give one line of printable text, at most {manifest.MAX_TEXT} characters")


def measured(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and words of each figure in a manifest; figures of another program's making as they stand."""
    for name, figure in figures.items():
        try:
            if name == "curve":
                kept = f"step {figure['kept']} of {figure['steps'][-1]}"
                yield "kept", f"{kept}, by the curve of {len(figure['steps'])} measurements"
            elif "value" in figure:
                before = f", {figure['before']:g} before" if "before" in figure else ""
                yield name, f"{figure['value']:g}{before} ({figure['by']}; N = {figure['faces']})"
        except (KeyError, TypeError, ValueError, IndexError):
            yield name, str(figure)


def told(manifest: PackManifest) -> Iterator[str]:
    """The figures, and what is to be said of the licences, in lines."""
    for name, text in measured(manifest.figures):
        yield f"{name}: {text}"
    if manifest.licence != manifest.base_licence:
        yield f"the pack's licence is {manifest.licence}; its base, from which it derives, has {manifest.base_licence}"
    if not manifest.references_licence:
        yield "the licence of the references is not declared: --references-licence"


def keep(pack: StylePack, name: str, out: Path | None, overwrite: bool) -> Path:
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
