"""SqueezeNet 1.1 (arXiv 1602.07360) up to its last features: small enough to run everywhere. Keys as torchvision's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 512
# Place in the sequence -> channels in, squeezed, and of each of the two expansions.
FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128),
         9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
POOLS = (2, 5, 8)


class Fire(nn.Module):
    """Few channels, then many: 1 x 1 and 3 x 3 convolutions side by side."""

    def __init__(self, c_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """x [N,3,H,W], normalised as its weights want it -> features [N,512], the mean over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({"0": nn.Conv2d(3, 64, 3, stride=2)})
        self.features.update({str(place): Fire(*sizes) for place, sizes in FIRES.items()})

    def activations(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(place in the sequence, what stands there), from the first ReLU, place 1, on."""
        x = F.relu(self.features["0"](x))
        yield 1, x
        for place in range(2, 13):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True) if place in POOLS else self.features[str(place)](x)
            yield place, x

    def forward(self, x: Tensor) -> Tensor:
        *_, (_, last) = self.activations(x)
        return last.mean((2, 3))
