"""Settings that several architectures have."""

import dataclasses
from typing import ClassVar

from grokjax.settings.fields import Part, field

WIDEST = 65536


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded(Part):
    """An architecture that embeds the elements of pairs and has one row of outputs each."""

    column: ClassVar[str] = "model"
    # The axis, counted from the end, along which a parameter runs over the vocabulary.
    vocabulary: ClassVar[dict[tuple[str, ...], tuple[int, str]]] = {
        ("embed", "embedding"): (-2, "elements"),
        ("embed_second", "embedding"): (-2, "elements"),
        ("unembed", "kernel"): (-1, "outputs"),
        ("unembed", "bias"): (-1, "outputs"),
    }

    d_model: int = field(128, help="width of the embedding and of the encoder", between=(1, WIDEST))
    activation: str = field(
        "gelu",
        help="activation of hidden layers",
        choices=("gelu", "gelu_tanh", "relu", "silu", "quadratic"),
    )
    biases: bool = field(True, help="whether linear layers have biases")
    initialisation: str = field(
        "pytorch",
        help="pytorch's defaults, or normal: variance 1 / inputs, embeddings 1 / width, biases 0",
        choices=("pytorch", "normal"),
    )
    separate_embeddings: bool = field(False, help="whether a and b have embeddings of their own")
