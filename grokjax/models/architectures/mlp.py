"""Networks of equal hidden layers, over pairs of elements or over features.

Over pairs: one embedding shared by a and b, concatenated (the study's) or summed, or one-hot
vectors (Gromov, 2301.02679). Over features, such as pixels: Omnigrok's (2210.01117).

Shapes: B examples, P padded elements, D d_model, W mlp_width.
"""

import dataclasses
import itertools
from typing import Any, ClassVar

from grokjax.models.architectures.shared import WIDEST, Embedded
from grokjax.settings.fields import Part, field, lazy

jnp = lazy("jax.numpy")
layers, products = lazy("grokjax.models.layers"), lazy("grokjax.models.products")
network = lazy("grokjax.models.network")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLP(Embedded):
    """Embeddings of a and b, or features, through equal hidden layers to a read-out."""

    learns: ClassVar[tuple[str, ...]] = ("pairs", "features")

    mlp_width: int = field(512, help="width of the MLP's hidden layers", between=(1, WIDEST))
    mlp_depth: int = field(3, help="number of the MLP's hidden layers", between=(1, 1024))
    mlp_inputs: str = field(
        "concatenate",
        help="how the MLP is given a pair: embeddings concatenated or summed, or one-hot vectors, "
        "whose layer has no bias",
        choices=("concatenate", "sum", "one_hot"),
    )

    @classmethod
    def title(cls, name: str) -> str:
        """An abbreviation."""
        return "MLP"

    @property
    def state_names(self) -> tuple[str, ...]:
        """hidden1, hidden2, …: after each layer's activation."""
        return tuple(f"hidden{i + 1}" for i in range(self.mlp_depth))

    def build(self, sizes: Any, real: Any, rngs: Any) -> Any:
        """See ``Architecture``.

        The first layer over one-hot vectors is a pair of tables, of a and of b, whose rows are
        drawn as those of a linear layer with 2p inputs.
        """
        hot = self.mlp_inputs == "one_hot" and not sizes.features
        width = self.mlp_width if hot else self.d_model
        init = self.initialisation
        bound = 1 / jnp.sqrt(2 * jnp.asarray(real.elements, jnp.float32)) if hot else None
        embed = second = None
        if sizes.elements:
            embed = layers.embedding(sizes.elements, width, rngs, init, bound)
            if self.separate_embeddings or hot:
                second = layers.embedding(sizes.elements, width, rngs, init, bound)
        n_embedded = 2 if self.mlp_inputs == "concatenate" else 1
        first = [] if hot else [sizes.features or n_embedded * self.d_model]
        widths = [*first, *[self.mlp_width] * self.mlp_depth, sizes.outputs]
        *hidden, unembed = (
            layers.linear(n, m, rngs, init, bias=self.biases) for n, m in itertools.pairwise(widths)
        )
        return layers.Layers(embed=embed, embed_second=second, hidden=hidden, unembed=unembed)

    def apply(self, net: Any, inputs: Any, every: bool) -> Any:
        """See ``Architecture``."""
        activation = layers.ACTIVATIONS[self.activation]
        hidden = list(net.hidden)
        if jnp.issubdtype(inputs.dtype, jnp.floating):
            before = layers.apply(hidden.pop(0), inputs)
        else:
            before = self._of_pairs(net, hidden, inputs)
        states = [activation(before)]
        for layer in hidden:
            states.append(activation(layers.apply(layer, states[-1])))
        logits = layers.apply(net.unembed, states[-1])
        return network.Outputs(logits=logits, states=states, neurons=states[-1])

    def _of_pairs(self, net: Any, hidden: list[Any], inputs: Any) -> Any:
        """The first hidden layer of pairs, before its activation.

        It acts on a pair of embedding rows: two tables of P rows, looked up and added. Takes its
        layer, if it has one, off the list.
        """
        first = net.embed.embedding[...]
        second = net.embed_second.embedding[...] if hasattr(net, "embed_second") else first
        if self.mlp_inputs == "one_hot":
            tables = [first, second]
        else:
            kernel, bias = layers.weights(hidden.pop(0))
            width = self.d_model if self.mlp_inputs == "concatenate" else 0
            a_table = products.affine(first, kernel[: self.d_model], bias)
            tables = [a_table, products.product(second, kernel[width:])]
        index = jnp.stack([inputs[:, 0], inputs[:, 1]])
        (rows,) = products.take_rows([jnp.stack(tables)], index)
        n_pairs = inputs.shape[0]
        return rows[:n_pairs] + rows[n_pairs:]

    def head_rows(self, net: Any) -> dict[str, Any]:
        """None: it has no heads."""
        return {}


PARTS: dict[str, type[Part]] = {"mlp": MLP}
