"""e4e's checkpoints: the encoder, and the generator that it was trained on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sigan.convert import keys, rosinality
from sigan.convert.foreign import Foreign, Tree, facts, last, named_state, shown, size, translated
from sigan.errors import WeightsError
from sigan.pickles import Record
from sigan.tensors import StoredTensor

TAKE = "take e4e_ffhq_encode.pt"


def read(tree: Tree, source: str) -> Foreign:
    """A checkpoint with `state_dict`, whose keys begin with `encoder.` and `decoder.`, and `latent_avg`."""
    options = tree.get("opts")
    options = options.state if isinstance(options, Record) else options
    kind = options.get("encoder_type") if isinstance(options, dict) else None
    if isinstance(kind, str) and kind != "Encoder4Editing":
        raise WeightsError(f"{source} is an encoder of the type {ascii(kind)[:80]}, not e4e's Encoder4Editing", TAKE)
    nets: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for key, value in named_state(tree["state_dict"], source, "state_dict").items():
        net, _, name = key.partition(".")
        nets.setdefault(net, {})[name] = value
    state = nets["encoder"]
    if size(state, "input_layer.0.weight", 1, 3) == 6:
        raise WeightsError(f"{source} is an encoder of ReStyle, which reads two pictures at once", TAKE)
    count = 1 + last(state, r"styles\.(\d+)\.")
    if count % 2 or count > 2 * rosinality.MAX_BLOCKS:
        raise WeightsError(f"{source} is an encoder to {count} codes; no StyleGAN2 has so many", TAKE)
    sizes = {"resolution": 2 ** ((count + 2) // 2), "w_dim": size(state, "styles.0.linear.weight", 0, 512),
             "width": size(state, "input_layer.0.weight", 0, 64),
             "input_resolution": 16 * 2 ** min(1 + last(state, r"styles\.0\.convs\.(\d+)\.") // 2, 8)}
    encoder = translated("encoder", state, keys.e4e_encoder, sizes, "e4e's layout", source,
                         (".num_batches_tracked",), given=("w_avg",))
    mean = tree.get("latent_avg")
    encoder.state["w_avg"] = _mean_codes(mean, count, encoder.config["w_dim"], source)
    parts = {"encoder": encoder}
    if "decoder" in nets:
        parts["generator"] = rosinality.generator(nets["decoder"], mean, source, notes)
    return Foreign("e4e", parts, facts(encoder, notes))


def _mean_codes(mean: Any, count: int, w_dim: int, source: str) -> Tensor:
    """The codes that the encoder's are added to, one a layer.  [L,C]"""
    shape = getattr(mean, "shape", ())
    if not isinstance(mean, StoredTensor) or shape[-1:] != (w_dim,) or shape[:-1] not in ((), (1,), (count,),
                                                                                         (1, count)):
        raise WeightsError(f"{source}: latent_avg is {shown(mean)}, not [{count}, {w_dim}]; the encoder's codes are "
                           "distances from it", TAKE)
    return mean.read().reshape(-1, w_dim).expand(count, -1).clone()
