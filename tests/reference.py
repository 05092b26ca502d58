"""The networks written as in a textbook: no tables, no shortcuts, no custom gradients."""

import math

import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + jax.scipy.special.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: jnp.maximum(x, 0),
    "silu": lambda x: x / (1 + jnp.exp(-x)),
    "quadratic": lambda x: x * x,
}


def over_rows(vector, x):
    """A vector of the last axis, with as many axes as x."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def linear(layer, x):
    """``x @ kernel``, and the bias if it has one."""
    y = x @ layer["kernel"]
    return y + over_rows(layer["bias"], x) if "bias" in layer else y


def layer_norm(layer, x):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-5) * over_rows(layer["scale"], x) + over_rows(
        layer["bias"], x
    )


def attention(block, x, config):
    """Full softmax attention over T tokens, (B, T, D) → (B, T, D)."""
    batch, tokens, width = x.shape
    q, k, v = (
        part.reshape(batch, tokens, config.n_heads, -1)
        for part in jnp.split(linear(block["qkv"], x), 3, axis=-1)
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width // config.n_heads)
    seen = jnp.tril(jnp.ones((tokens, tokens))) if config.causal else jnp.ones((tokens, tokens))
    seen = seen[None, None]
    weights = jax.nn.softmax(jnp.where(seen > 0, scores, -jnp.inf), axis=-1)
    rate = config.attention_rate  # 1: learned; 0: every token that is seen has weight 1
    weights = rate * weights + (1 - rate) * seen
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return linear(block["out"], mixed.reshape(batch, tokens, width))


def transformer(params, config, inputs):
    """Logits (B, P), the states after each block (T, B, D), and the last neurons (B, F)."""
    second = params["embed_second"] if config.separate_embeddings else params["embed"]
    tokens = [params["embed"]["embedding"][inputs[:, 0]], second["embedding"][inputs[:, 1]]]
    if config.equals_token:
        tokens.append(jnp.broadcast_to(params["equals"]["embedding"], tokens[0].shape))
    x = jnp.stack(tokens, axis=1) + params["position"]["embedding"][None]
    pre, post = config.layer_norm == "pre", config.layer_norm == "post"
    states = []
    for i in range(config.n_layers):
        block = params["blocks"][str(i)]
        x = x + attention(block, layer_norm(block["norm1"], x) if pre else x, config)
        x = layer_norm(block["norm1"], x) if post else x
        neurons = x
        if config.d_ff > 0:
            y = layer_norm(block["norm2"], x) if pre else x
            neurons = ACTIVATIONS[config.activation](linear(block["up"], y))
            x = x + linear(block["down"], neurons)
            x = layer_norm(block["norm2"], x) if post else x
        states.append(jnp.moveaxis(x, 1, 0))
    last = layer_norm(params["norm"], x[:, -1]) if pre else x[:, -1]
    return linear(params["unembed"], last), states, neurons[:, -1]


def mlp(params, config, inputs):
    """Logits (B, Q), the states after each hidden layer (1, B, W), and the last of them.

    Inputs are pairs (B, 2) or features (B, n).
    """
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        x = inputs
    else:
        embed = params["embed"]["embedding"]
        second = params["embed_second"]["embedding"] if "embed_second" in params else embed
        a, b = embed[inputs[:, 0]], second[inputs[:, 1]]
        x = jnp.concatenate([a, b], axis=-1) if config.mlp_inputs == "concatenate" else a + b
    activation = ACTIVATIONS[config.activation]
    # One-hot vectors go through a first layer without a bias: a kernel for a and one for b.
    first = config.mlp_inputs == "one_hot" and "embed" in params
    states = [activation(x)] if first else []
    for i in range(config.mlp_depth - len(states)):
        x = states[-1] if states else x
        states.append(activation(linear(params["hidden"][str(i)], x)))
    return linear(params["unembed"], states[-1]), [state[None] for state in states], states[-1]


NETWORKS = {"transformer": transformer, "mlp": mlp}
