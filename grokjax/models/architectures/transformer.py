"""Encoders over the tokens [a, b], or [a, b, =].

The study's is the default. By its settings it is the network of Power et al. (2201.02177), of
Nanda et al. (2301.05217) and of Zhong et al. (2306.17844).

Three facts about the task shape the code. Only 2P distinct (position, token) rows can enter the
first layer, so its projections are computed once per row and then looked up. Attention over two
tokens is a sigmoid of the difference of two scores. Only the last token is read out, so the last
block computes a single query. ``tests/reference.py`` holds the textbook model these must equal.

Shapes: B pairs, P padded elements, D d_model, H heads, F d_ff, T tokens (2 or 3). Rows of tokens
are (T·B, D), first tokens first.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar

from grokjax.models.architectures.shared import WIDEST, Embedded
from grokjax.settings.fields import Part, check, field, lazy

jax, jnp = lazy("jax"), lazy("jax.numpy")
layers, products = lazy("grokjax.models.layers"), lazy("grokjax.models.products")
network = lazy("grokjax.models.network")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer(Embedded):
    """Encoder over the two tokens; the last token's final state is read out."""

    learns: ClassVar[tuple[str, ...]] = ("pairs",)

    n_heads: int = field(4, help="attention heads", between=(1, WIDEST))
    d_ff: int = field(
        256, help="width of feed-forward layers; 0: attention only", between=(0, WIDEST)
    )
    n_layers: int = field(2, help="encoder blocks", between=(1, 1024))
    layer_norm: str = field(
        "pre",
        help="layer norms: before attention and feed-forward, behind them, or none",
        choices=("pre", "post", "none"),
    )
    equals_token: bool = field(False, help="whether a third token, =, is there and is read out")
    causal: bool = field(False, help="whether a token sees only those before it and itself")
    attention_rate: float = field(
        1.0,
        help="1: learned attention; 0: every token has weight 1, in between as Zhong et al. mix",
        between=(0, 1),
    )

    @classmethod
    def adapted(cls, values: Any, given: Any) -> Any:
        """As many heads, or as great a width, as go with all that is given of the other."""
        width, heads = math.gcd(*values["d_model"]), math.lcm(*values["n_heads"])
        if width % heads == 0 or {"d_model", "n_heads"} <= set(given):
            return {}
        if "d_model" in given:
            return {"n_heads": (max(n for n in range(1, heads + 1) if width % n == 0),)}
        return {"d_model": (-(-width // heads) * heads,)}

    def validate(self) -> None:
        """The heads must divide the width."""
        fits = self.d_model % self.n_heads == 0
        check(fits, "n_heads", self.n_heads, f"must divide --d_model={self.d_model}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """layer1, layer2, …: after each block."""
        return tuple(f"layer{i + 1}" for i in range(self.n_layers))

    @property
    def n_tokens(self) -> int:
        """T."""
        return 3 if self.equals_token else 2

    def build(self, sizes: Any, real: Any, rngs: Any) -> Any:
        """See ``Architecture``."""
        width, init, second = self.d_model, self.initialisation, self.separate_embeddings
        return layers.Layers(
            embed=layers.embedding(sizes.elements, width, rngs, init),
            embed_second=layers.embedding(sizes.elements, width, rngs, init) if second else None,
            equals=layers.embedding(1, width, rngs, init) if self.equals_token else None,
            position=layers.embedding(self.n_tokens, width, rngs, init),
            blocks=[self._block(rngs) for _ in range(self.n_layers)],
            norm=layers.norm(width, rngs) if self.layer_norm == "pre" else None,
            unembed=layers.linear(width, sizes.outputs, rngs, init, bias=self.biases),
        )

    def _block(self, rngs: Any) -> Any:
        width, hidden = self.d_model, self.d_ff
        common = {"rngs": rngs, "init": self.initialisation, "bias": self.biases}
        linear = functools.partial(layers.linear, **common)
        norms, feeds = self.layer_norm != "none", hidden > 0
        bound = math.sqrt(6 / (4 * width))
        # In this order, because each layer draws from the stream of keys.
        norm1 = layers.norm(width, rngs) if norms else None
        qkv = linear(width, 3 * width, bound=bound, zero_bias=True)
        out = linear(width, width, zero_bias=True)
        norm2 = layers.norm(width, rngs) if norms and feeds else None
        up = linear(width, hidden) if feeds else None
        down = linear(hidden, width) if feeds else None
        return layers.Layers(norm1=norm1, qkv=qkv, out=out, norm2=norm2, up=up, down=down)

    def apply(self, net: Any, inputs: Any, every: bool) -> Any:
        """See ``Architecture``."""
        n_pairs = inputs.shape[0]
        states: list[Any] = []
        for depth, block in enumerate(net.blocks):
            alone = depth == self.n_layers - 1 and not every
            first = (self.n_tokens - 1) * n_pairs if alone else 0
            by_gaps = self._by_gaps(alone)
            if depth == 0:
                x, q, *seen = self._first_rows(net, inputs, by_gaps)
                q = q[first:]
            else:
                y = block.norm1(x) if self.layer_norm == "pre" else x
                project = layers.queries_gaps if by_gaps else layers.queries_keys_values
                q, *seen = project(y, block.qkv, first)
            attend = functools.partial(products.attend, self.n_heads) if by_gaps else self._attend
            kernel, bias = layers.weights(block.out)
            bias = None if depth == 0 and self._biased_tables() else bias
            x = x[first:] + products.affine(attend(q, *seen), kernel, bias)
            if self.layer_norm == "post":
                x = block.norm1(x)
            x, neurons = self._feed_forward(block, x)
            states.append(x)
        last = x[-n_pairs:]
        logits = layers.apply(net.unembed, net.norm(last) if self.layer_norm == "pre" else last)
        return network.Outputs(logits=logits, states=states, neurons=neurons[-n_pairs:])

    def _feed_forward(self, block: Any, x: Any) -> tuple[Any, Any]:
        """The state behind a block, and its neurons: the state itself if it has none."""
        if not self.d_ff:
            return x, x
        y = block.norm2(x) if self.layer_norm == "pre" else x
        neurons = layers.ACTIVATIONS[self.activation](layers.apply(block.up, y))
        x = x + layers.apply(block.down, neurons)
        return (block.norm2(x) if self.layer_norm == "post" else x), neurons

    def _first_rows(self, net: Any, inputs: Any, by_gaps: bool) -> list[Any]:
        """First-layer input and its query, key, value of every token: (T·B, D) each.

        Or what ``products.attend`` takes instead of key and value.
        """
        index = jnp.stack([inputs[:, 0], inputs[:, 1]])
        take = products.take_rows_and_gaps if by_gaps else products.take_rows
        parts = take(self._tables(net), index)
        if not self.equals_token:
            return parts
        equals = net.equals.embedding[...] + net.position.embedding[...][2:]
        rows = products.apart(self._with_projections(net, equals))
        same = (jnp.broadcast_to(row, (inputs.shape[0], row.shape[1])) for row in rows)
        return [jnp.concatenate(both) for both in zip(parts, same, strict=True)]

    def _tables(self, net: Any) -> list[Any]:
        """First-layer input and its query, key, value for every (position, element): (2, P, D).

        As ``products.as_looked_up`` has them. There may be rows of no element behind the last.
        """
        embeddings = [net.embed.embedding[...]]
        if self.separate_embeddings:
            embeddings.append(net.embed_second.embedding[...])
        x_SPD = jnp.stack(embeddings) + net.position.embedding[...][:2, None]
        x_SPD = products.in_tiles(x_SPD)
        rows = self._with_projections(net, x_SPD.reshape(-1, x_SPD.shape[-1]))
        return [part.reshape(*x_SPD.shape[:2], -1) for part in rows]

    def _with_projections(self, net: Any, rows: Any) -> list[Any]:
        block = net.blocks[0]
        y = block.norm1(rows) if self.layer_norm == "pre" else rows
        own = products.as_looked_up(layers.columns(y, block.qkv, 0, None, n_parts=3))
        return [rows + block.out.bias[...][None] if self._biased_tables() else rows, *own]

    def _biased_tables(self) -> bool:
        """Whether the first block's output has its bias by way of its input's tables.

        On accelerators, where the gradient is then summed over elements instead of examples.
        """
        return self.biases and products.platform() in products.ACCELERATORS

    def _by_gaps(self, alone: bool) -> bool:
        """Whether ``products.attend`` does; the last token sees everything, mask or not."""
        unmasked = not self.causal or alone
        return self.n_tokens == 2 and unmasked and self.attention_rate == 1

    def _attend(self, q: Any, k: Any, v: Any) -> Any:
        """Attention of the last tokens' queries (n·B, D) to all keys and values (T·B, D)."""
        keys, values = jnp.split(k, self.n_tokens), jnp.split(v, self.n_tokens)
        n_asking = len(q) // len(keys[0])
        scale = math.sqrt(self.n_heads / self.d_model)
        mixed = []
        for place, own in enumerate(jnp.split(q, n_asking), start=self.n_tokens - n_asking):
            seen = place + 1 if self.causal else self.n_tokens
            scores = [scale * products.sum_heads(own * key, self.n_heads) for key in keys[:seen]]
            weights = jax.nn.softmax(jnp.stack(scores), axis=0)
            weights = self.attention_rate * weights + (1 - self.attention_rate)
            spread = (products.spread_heads(weight, self.d_model) for weight in weights)
            mixed.append(sum(w * value for w, value in zip(spread, values, strict=False)))
        return jnp.concatenate(mixed)

    def head_rows(self, net: Any) -> dict[str, Any]:
        """Rows over elements in the first block: (P, H, D/H) each.

        ``query`` as the second element asks, ``key`` and ``value`` as the first answers.
        """
        _, q, k, v = products.apart(self._tables(net))
        rows = {"query": q[1], "key": k[0], "value": v[0]}
        n = len(net.embed.embedding[...])
        return {name: own[:n].reshape(n, self.n_heads, -1) for name, own in rows.items()}


PARTS: dict[str, type[Part]] = {"transformer": Transformer}
DEFAULT = "transformer"
