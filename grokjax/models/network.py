"""A network of any architecture as pure functions on plain dictionaries.

Flax NNX describes the layers and their initialisation; everything outside this package sees only
``Model``. Parameters are plain nested dictionaries of arrays, so they pass through ``vmap``,
``grad``, ``scan`` and Orbax as is.

Shapes: R runs, B examples, T token positions, P padded number of elements (rows of the
vocabulary), Q padded number of outputs.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]


class Sizes(NamedTuple):
    """What a network is made for; elements and outputs may be padded."""

    elements: int  # P
    outputs: int  # Q
    features: int = 0  # numbers in an example that is no pair


class Outputs(NamedTuple):
    """What a network computes of examples."""

    logits: Any  # (B, Q)
    # After each layer (T·B, width), first tokens first; the last may be the read-out token's alone.
    states: list[Any]
    neurons: Any  # (B, width) activations of the last (feed-forward) layer, at the read-out token


class Architecture(Protocol):
    """A part that is a network."""

    name: str
    learns: ClassVar[tuple[str, ...]]  # kinds of examples it takes: ``pairs``, ``features``
    # Path of a parameter → the axis, from the end, along which it runs over elements or outputs,
    # and which of the two.
    vocabulary: ClassVar[Mapping[tuple[str, ...], tuple[int, str]]]

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of its layers, in order."""

    def build(self, sizes: Sizes, real: Any, rngs: nnx.Rngs) -> nnx.Module:
        """Layers with initial parameters; ``real`` are the sizes without padding (traced)."""

    def apply(self, net: Any, inputs: Any, every: bool) -> Outputs:
        """Applies layers to (B, 2) element numbers or (B, features) numbers.

        With ``every``, also the last state is that of every token.
        """

    def head_rows(self, net: Any) -> dict[str, Any]:
        """Rows over elements of each head of the first block, (P, H, width); may be empty."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network, as functions. Hashable and static under ``jit``.

    Vocabulary rows at or past a run's own sizes are padding: ``init`` sets them to zero, no
    function reads them into a real row, and logits of padding outputs are for the caller to mask.
    """

    config: Any  # an Architecture
    sizes: Sizes

    def template(self) -> Params:
        """Shapes and dtypes of the parameters."""
        return _template(self)

    def init(self, key: jax.Array, real: Any, scale: jax.Array | float) -> Params:
        """Parameters drawn as the architecture has it, every one multiplied by ``scale``."""
        net = self.config.build(self.sizes, real, nnx.Rngs(key))
        params = _with_keys(nnx.to_pure_dict(nnx.state(net, nnx.Param)), str)
        scaled = jax.tree.map(lambda leaf: leaf * scale, params)
        return mask_padding(self.config, scaled, real)

    def logits(self, params: Params, inputs: jax.Array) -> jax.Array:
        """(B, Q) logits of examples; columns at or past the real outputs are meaningless."""
        return self.outputs(params, inputs).logits

    def outputs(self, params: Params, inputs: jax.Array) -> Outputs:
        """Logits and neurons of examples, and states as far as logits need them."""
        outputs: Outputs = self.config.apply(self._net(params), inputs, False)
        return outputs

    def states(self, params: Params, inputs: jax.Array) -> dict[str, jax.Array]:
        """Name of a layer → what it holds, (T, B, width), tokens in their order.

        Also ``neurons`` and ``logits``, as in ``Outputs``.
        """
        found = self.config.apply(self._net(params), inputs, True)
        by_token = [s.reshape(-1, inputs.shape[0], s.shape[-1]) for s in found.states]
        named = dict(zip(self.config.state_names, by_token, strict=True))
        return named | {"neurons": found.neurons, "logits": found.logits}

    def head_rows(self, params: Params) -> dict[str, jax.Array]:
        """Per-head rows over elements, (P, H, width) each; empty for a network without heads."""
        return self.config.head_rows(self._net(params))

    def hidden(self, params: Params) -> Any:
        """Which parameters are matrices between hidden layers: a tree of booleans."""

        def is_hidden(path: Sequence[Any], leaf: Any) -> bool:
            names = _names(path)
            of_input = names in self.config.vocabulary or names[-1] == "embedding"
            return leaf.ndim == 2 and not of_input

        return jax.tree.map_with_path(is_hidden, params)

    def _net(self, params: Params) -> Any:
        model = dataclasses.replace(self, config=self.config.static())
        keyed = _with_keys(params, lambda key: int(key) if key.isdigit() else key)
        return nnx.merge(_graphdef(model), keyed)


@functools.cache
def _graphdef(model: Model) -> Any:
    module = nnx.eval_shape(lambda: model.config.build(model.sizes, model.sizes, nnx.Rngs(0)))
    return nnx.split(module)[0]


@functools.cache
def _template(model: Model) -> Params:
    # Kept, because each checkpoint that is read asks for it, and layers are slow to make.
    return jax.eval_shape(lambda: model.init(jax.random.key(0), model.sizes, 1.0))


def _with_keys(tree: Any, key_of: Callable[[Any], Any]) -> Any:
    """Items of module lists have integer keys, which a checkpoint would turn into strings."""
    if not isinstance(tree, dict):
        return tree
    return {key_of(key): _with_keys(value, key_of) for key, value in tree.items()}


def embedding(params: Params) -> Any:
    """The (P, D) embedding of elements, before positions are added; None where there is none."""
    return params["embed"]["embedding"] if "embed" in params else None


def with_embedding(params: Params, rows: Any) -> Params:
    """The same parameters with other rows (P, D) as the embedding."""
    return {**params, "embed": {**params["embed"], "embedding": rows}}


def _names(path: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(key.key) for key in path)


def map_vocabulary(config: Any, function: Callable[[Any, int, str], Any], params: Params) -> Params:
    """Applies ``function(leaf, axis, which)`` to parameters that run over elements or outputs."""

    def one(path: Sequence[Any], leaf: Any) -> Any:
        names = _names(path)
        return function(leaf, *config.vocabulary[names]) if names in config.vocabulary else leaf

    return jax.tree.map_with_path(one, params)


def mask_padding(config: Any, params: Params, real: Any) -> Params:
    """Zero in every vocabulary row at or past the real sizes (one run, traced sizes allowed)."""

    def mask(leaf: jax.Array, axis: int, which: str) -> jax.Array:
        rows = jnp.arange(leaf.shape[axis]) < getattr(real, which)
        others = [i for i in range(-leaf.ndim, 0) if i != axis]
        return jnp.where(jnp.expand_dims(rows, others), leaf, 0)

    return map_vocabulary(config, mask, params)


def stacked(template: Params, n_runs: int) -> Params:
    """Shapes of the parameters of ``n_runs`` runs, given those of one."""
    shape = jax.ShapeDtypeStruct
    return jax.tree.map(lambda leaf: shape((n_runs, *leaf.shape), leaf.dtype), template)


def row(config: Any, params: Params, index: Any, real: Sizes) -> Params:
    """One run's parameters out of a stack of NumPy arrays, without the padding.

    Those of several, of one size, if ``index`` is an array.
    """

    def cut(leaf: Any, axis: int, which: str) -> Any:
        size = getattr(real, which)
        return leaf[..., :size] if axis == -1 else leaf[..., :size, :]

    return map_vocabulary(config, cut, jax.tree.map(lambda leaf: leaf[index], params))
