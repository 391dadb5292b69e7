"""Inversion: the encoder's codes, and refined ones that redraw better, each face by itself."""

from __future__ import annotations

import pytest
import torch

from sigan import inversion
from sigan.errors import ConfigError
from sigan.losses import DiscriminatorFeatures


@pytest.fixture
def faces(tiny_base) -> torch.Tensor:
    return tiny_base.generator.synthesis(torch.randn(3, tiny_base.num_ws, tiny_base.w_dim)).clamp(-1, 1)


def test_portraits_get_the_faithful_code_and_drawings_the_in_domain_one(tiny_base, faces):
    torch.testing.assert_close(inversion.invert(tiny_base, faces)[:, 0], tiny_base.encoder.faithful(faces))
    in_domain = inversion.invert(tiny_base, faces, in_domain=True)
    torch.testing.assert_close(in_domain[:, 0], tiny_base.encoder.in_domain(faces))


def error(base, x, ws) -> torch.Tensor:
    loss, y = DiscriminatorFeatures(base.discriminator), base.generator.synthesis(ws)
    return (y - x).abs().mean((1, 2, 3)) + loss.distance(loss.features(y), loss.features(x))


def test_refined_codes_redraw_better(tiny_base, faces):
    start, refined = inversion.invert(tiny_base, faces), inversion.invert(tiny_base, faces, refine=15)
    assert (error(tiny_base, faces, refined) < error(tiny_base, faces, start)).all()


def test_refining_a_batch_is_refining_each_face(tiny_base, faces):
    together = inversion.invert(tiny_base, faces, refine=5)
    alone = torch.cat([inversion.invert(tiny_base, x[None], refine=5) for x in faces])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)


def test_refining_works_without_gradients_around_it(tiny_base, faces):
    with torch.inference_mode():
        assert inversion.invert(tiny_base, faces, refine=1).shape == (3, tiny_base.num_ws, tiny_base.w_dim)


def test_negative_steps_are_refused(tiny_base, faces):
    with pytest.raises(ConfigError, match="refine is -1"):
        inversion.invert(tiny_base, faces, refine=-1)
