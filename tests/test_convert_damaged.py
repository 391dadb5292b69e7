"""Checkpoints damaged at random: whatever happens to the bytes, the answer is a WeightsError or a network."""

from __future__ import annotations

import random

import foreign
import pytest
import torch

from sigan import convert
from sigan.errors import WeightsError

SMALL = {"channel_base": 32, "channel_max": 4}
OPCODES = b"()RbQ0123deustlai\x81\x85\x86\x87\x93\x94hjqrcNGXBC."


def write(layout: str, path) -> None:
    g = foreign.generator(8, w_dim=4, z_dim=4, mapping_layers=1, **SMALL).state_dict()
    d = foreign.discriminator(8, **SMALL).state_dict()
    tree = {"g_ema": foreign.rosinality_generator(g), "d": foreign.rosinality_discriminator(d)}
    if layout == "nvidia":
        foreign.write_nvidia(path, g, d)
    elif layout == "tensorflow":
        foreign.write_tensorflow(path, g, d, protocol=2)
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=layout == "archive")


def damaged(content: bytes, dice: random.Random) -> bytes:
    """One to five bytes changed, dropped, added, turned into opcodes, or overwritten from elsewhere in the file."""
    new = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, kind = dice.randrange(len(new)), dice.randrange(5)
        if kind == 0:
            new[at] = dice.randrange(256)
        elif kind == 1:
            del new[at : at + dice.randrange(1, 9)]
        elif kind == 2:
            new[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif kind == 3:
            new[at] = dice.choice(OPCODES)
        else:
            other = dice.randrange(len(new))
            new[at : at + 20] = new[other : other + 20]
    return bytes(new)


@pytest.mark.parametrize("layout", ["archive", "stream", "nvidia", "tensorflow"])
def test_damage_is_an_error_of_ours_or_no_matter(layout, tmp_path):
    write(layout, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    dice, path, refused = random.Random(layout), tmp_path / "damaged", 0
    for _ in range(80):
        path.unlink(missing_ok=True)  # a file that is mapped is not to be changed
        path.write_bytes(damaged(whole, dice))
        try:
            convert.read(path)
        except WeightsError as error:
            assert error.message and error.hint
            refused += 1
    assert refused > 20
