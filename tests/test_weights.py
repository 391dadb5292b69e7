"""Reading safetensors bytes, compared with the library's own reader."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from sigan import weights
from sigan.errors import WeightsError


def test_the_header_is_read_as_the_library_reads_it(tmp_path):
    content = save({"a": torch.arange(3.0)}, {"name": "é", "licence": "CC0-1.0"})
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with safe_open(path, "pt") as file:
        assert weights.metadata(content) == file.metadata()
    assert content[weights.header_size(content):] == torch.arange(3.0).numpy().tobytes()


def test_a_file_without_text_has_no_metadata():
    assert weights.metadata(save({"a": torch.zeros(1)})) == {}


def test_what_does_not_fit_is_told_whole():
    net = nn.Linear(2, 3)
    with pytest.raises(WeightsError, match=r"file does not fit: missing bias; unexpected stray; weight is \[1\]"):
        weights.load_strict(net, {"stray": torch.zeros(1), "weight": torch.zeros(1)}, "file", "fetch it again")
