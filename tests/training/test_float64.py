"""Second derivatives of the cross-entropy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.training import float64

pytestmark = pytest.mark.device


@pytest.mark.parametrize("compiled", [lambda f: f, jax.jit], ids=["as is", "compiled"])
def test_second_derivatives_of_cross_entropy_in_float64_are_numpys(compiled):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 20, 7)).astype(np.float32)
    label = rng.integers(0, 7, (2, 20)).astype(np.int32)
    np.add.at(logits, (*np.indices(label.shape), label), np.linspace(0, 40, 20, dtype=np.float32))
    logits[:, -1, :2] = 50  # two are the largest
    along = rng.normal(size=logits.shape).astype(np.float32)
    wide = logits.astype(np.float64)
    power = np.exp(wide - wide.max(-1, keepdims=True))
    share = power / power.sum(-1, keepdims=True)
    # sum_j p_i p_j (u_i - u_j): nothing cancels where one logit has it all.
    gaps = along[..., :, None].astype(np.float64) - along[..., None, :]
    wanted = (share[..., :, None] * share[..., None, :] * gaps).sum(-1)
    scale = np.abs(wanted).max(-1, keepdims=True)  # small numbers keep their digits
    assert scale[:, -2].max() < 1e-14

    def loss(logits, label):
        return float64.cross_entropy(logits, label).sum()

    # Compiled inside of what differentiates it, as the body of a scan is.
    gradient = compiled(jax.grad(compiled(loss)))

    def curvature(logits, label, along):
        return jax.jvp(lambda x: gradient(x, label), (logits,), (along,))[1]

    def twice_in_reverse(logits, label, along):
        return jax.grad(lambda x: (gradient(x, label) * along).sum())(logits)

    for second in (curvature, twice_in_reverse):
        found = jax.vmap(second)(*map(jnp.asarray, (logits, label, along)))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-6)
    slope = jax.jvp(lambda x: loss(x, label[0]), (jnp.asarray(logits[0]),), (along[0],))[1]
    np.testing.assert_allclose(slope, (gradient(logits[0], label[0]) * along[0]).sum(), rtol=1e-5)
