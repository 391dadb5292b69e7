"""Fixtures of the whole suite: shared material outside the repository, a tiny base, faces that need no detector."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for something which not every machine has carries the marker of that name."""
    for item in items:
        for name in {"shared", "browser", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(name)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pictures and oracles beside the repository; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: the pictures and oracles are not part of the repository")
    return SHARED


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch) -> None:
    """Every test has a home folder of its own, and no plugin or option of this machine's user."""
    for name in [name for name in os.environ if name.startswith("SIGAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIGAN_PLUGINS", "")  # the shipped styles too: a test that wants them says so
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def server():
    """A server on loopback; see `loopback.Loopback`."""
    from loopback import Loopback

    served = Loopback()
    yield served
    served.close()


# ---- faces without a detector

SIDE = 96  # of a pretended face, in pixels


@pytest.fixture
def draw():
    """draw(path, faces=1): a picture with so many faces side by side, for `pretend_faces` to find; 0 is all grey."""
    from PIL import Image

    def picture(path: Path, faces: int = 1, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((SIDE, max(faces, 1) * SIDE, 3), 128, np.uint8)
        if faces:
            pixels = np.random.default_rng(seed).integers(0, 255, pixels.shape, np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return picture


@pytest.fixture
def pretend_faces(monkeypatch):
    """dlib is not asked: each square of a picture that `draw` made is a face, the last one a little larger."""
    from sigan import alignment

    def find(self, image: np.ndarray, every: bool = False) -> list[alignment.Face]:
        count = 0 if np.ptp(image) < 40 else image.shape[1] // SIDE  # JPEG leaves grey nearly grey
        return [alignment.Face((k * SIDE, 0, (k + 1) * SIDE + 2 * k, SIDE), 1.0, _landmarks() + (k * SIDE, 0), "hog")
                for k in range(count)]

    monkeypatch.setattr(alignment.DlibAligner, "find", find)


def _landmarks() -> np.ndarray:
    """float32 [68,2] of an upright face: eyes and mouth where they belong, every other point in the middle."""
    points = np.full((68, 2), SIDE / 2, np.float32)
    points[36:42], points[42:48] = (SIDE * 0.38, SIDE * 0.45), (SIDE * 0.62, SIDE * 0.45)
    points[48], points[54] = (SIDE * 0.42, SIDE * 0.7), (SIDE * 0.58, SIDE * 0.7)
    return points


# ---- a base and a pack without training

@pytest.fixture
def tiny_base(monkeypatch):
    """A random base of 32 px that `bases.load` gives under every name."""
    import torch

    from sigan import bases
    from sigan.nets.compact_encoder import CompactEncoder, EncoderConfig
    from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
    from sigan.nets.stylegan2 import Generator, GeneratorConfig

    sizes = {"resolution": 32, "channel_base": 256, "channel_max": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig(w_dim=16, z_dim=16, mapping_layers=2, canvas_resolution=16,
                                              canvas_luma=10, **sizes))
        discriminator = Discriminator(DiscriminatorConfig(**sizes))
        encoder = CompactEncoder(EncoderConfig(resolution=32, num_ws=generator.num_ws, w_dim=16, luma=10,
                                               canvas_resolution=16, width=8))
    nets = [net.eval().requires_grad_(False) for net in (generator, discriminator, encoder)]
    base = bases.Base("mini", *nets, hash="ab" * 32, licence="CC0-1.0")
    monkeypatch.setattr(bases, "load", lambda name="mini", device="cpu": base)
    return base


@pytest.fixture
def nets():
    """A tiny generator, discriminator and e4e encoder, for checkpoints in other programs' layouts."""
    import foreign

    return foreign.generator(), foreign.discriminator(), foreign.encoder()


@pytest.fixture
def files(nets, tmp_path):
    """The folder of gan.pt, plain.pt and e4e.pt that hold those nets: see `foreign.write_files`."""
    import foreign

    return foreign.write_files(tmp_path, *nets)


@pytest.fixture
def tiny_pack(tiny_base):
    """A pack for `tiny_base`: a few weights moved at random, enough to be seen."""
    import torch

    from sigan import packs

    state = tiny_base.generator.state_dict()
    draw = torch.Generator().manual_seed(5)
    last = max(tiny_base.generator.synthesis.resolutions)
    tuned = {key: value + 0.2 * torch.randn(value.shape, generator=draw) if f"b{last}.torgb" in key else value
             for key, value in state.items()}
    manifest = packs.PackManifest(
        name="warm", base=tiny_base.name, base_hash=tiny_base.hash, base_resolution=tiny_base.resolution,
        recipe="styleidentity", config={}, seed=5, steps=1, references=1, licence="CC0-1.0")
    return packs.StylePack.from_weights(manifest, state, tuned)


# ---- installed packages

@pytest.fixture
def package(tmp_path_factory, monkeypatch):
    """package(name, entry points by group, files by path) installs a package for this test only; gives its folder.

    The module, named as the package with underscores, is empty unless `files` has its `__init__.py`. Only these
    packages are let in, none of this machine.
    """
    site = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(str(site))
    installed: list[str] = []

    def install(name: str, points: dict[str, dict[str, str]], files: dict[str, str | bytes] | None = None) -> Path:
        module = name.replace("-", "_").lower()
        lines = [f"[{group}]\n" + "\n".join(f"{key} = {module}{value}" for key, value in names.items())
                 for group, names in points.items()]
        info = f"{module}-1.2.dist-info"
        for path, content in {f"{module}/__init__.py": "", f"{info}/entry_points.txt": "\n".join(lines) + "\n",
                              f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n\nName: no\n",
                              **{f"{module}/{path}": content for path, content in (files or {}).items()}}.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        installed.append(name)
        monkeypatch.setenv("SIGAN_PLUGINS", ",".join(installed))
        importlib.invalidate_caches()  # it goes by the folder's time of change, and two packages can share that
        return site / module

    yield install
    for name in [name for name in sys.modules if getattr(sys.modules[name], "__file__", None)
                 and str(sys.modules[name].__file__).startswith(str(site))]:
        del sys.modules[name]


# ---- a real browser

CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, driven by Playwright; tests that need it are skipped where either is absent.

    `browser.new_page(viewport={"width": 390, "height": 844})` opens a page of its own; close it when done.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no chromium on the PATH: `apt-get install chromium`")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is absent: `pip install playwright`")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder, ignored by git, where tests leave pictures of the pages they opened."""
    folder = ROOT / "test-output"
    folder.mkdir(exist_ok=True)
    return folder
