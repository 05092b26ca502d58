"""The two networks written as in a textbook: no tables, no shortcuts, no custom gradients."""

import math

import jax
import jax.numpy as jnp


def over_rows(vector, x):
    """A vector of the last axis, with as many axes as x."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def linear(layer, x):
    return x @ layer["kernel"] + over_rows(layer["bias"], x)


def layer_norm(layer, x):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-5) * over_rows(layer["scale"], x) + over_rows(
        layer["bias"], x
    )


def gelu(x):
    return x * 0.5 * (1 + jax.scipy.special.erf(x / math.sqrt(2)))


def attention(block, x, n_heads):
    """Full softmax attention over T tokens, (B, T, D) → (B, T, D)."""
    batch, tokens, width = x.shape
    q, k, v = (
        part.reshape(batch, tokens, n_heads, -1)
        for part in jnp.split(linear(block["qkv"], x), 3, axis=-1)
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width // n_heads)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
    return linear(block["out"], mixed.reshape(batch, tokens, width))


def transformer(params, config, a, b):
    """Logits (B, P) and the states after each block, (B, 2, D)."""
    x = params["embed"]["embedding"][jnp.stack([a, b], axis=1)]
    x = x + params["position"]["embedding"][None]
    states = []
    for i in range(config.n_layers):
        block = params["blocks"][str(i)]
        x = x + attention(block, layer_norm(block["norm1"], x), config.n_heads)
        x = x + linear(block["down"], gelu(linear(block["up"], layer_norm(block["norm2"], x))))
        states.append(x)
    return linear(params["unembed"], layer_norm(params["norm"], x[:, 1])), states


def mlp(params, config, a, b):
    """Logits (B, P) and the states after each hidden layer, (B, W)."""
    embed = params["embed"]["embedding"]
    x = jnp.concatenate([embed[a], embed[b]], axis=-1)
    states = []
    for i in range(config.mlp_depth):
        x = gelu(linear(params["hidden"][str(i)], x))
        states.append(x)
    return linear(params["unembed"], x), states


NETWORKS = {"transformer": transformer, "mlp": mlp}
