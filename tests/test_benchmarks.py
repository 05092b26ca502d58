"""What the benchmarks count and write; what they time is theirs."""

import json

import jax
import jax.numpy as jnp

from experiments.benchmarks import floor, page, train, turns
from grokjax.training import work


def test_products_are_counted_through_loops_and_calls():
    def loop(x, y):
        def body(carry, _):
            return jax.jit(lambda c: c @ y)(carry), jnp.einsum("bij,bjk->bik", z, z)

        z = jnp.ones((2, 4, 4))
        return jax.lax.scan(body, x, None, length=5)

    traced = jax.make_jaxpr(loop)(jnp.ones((3, 7)), jnp.ones((7, 7)))
    assert work.products(traced.jaxpr) == {(3, 7, 7): 5, (4, 4, 4): 2 * 5}


def test_the_textbooks_products_are_those_one_would_count():
    counted = floor.step_products("mlp", 113)
    weights = 256 * 512 + 2 * 512 * 512 + 512 * 113
    assert work.flops(counted["textbook"]) == 3 * 2 * 512 * weights
    assert work.flops(counted["grokjax"]) < work.flops(counted["textbook"])


def test_the_page_shows_every_number_beside_what_is_asked(tmp_path):
    scaling = {
        "benchmark": "scaling",
        "results": [
            {
                "model": "mlp",
                "prime": 113,
                "milliseconds_per_run_step": {"5": 10.0, "45": 10.4},
                "ratio": 1.04,
            }
        ],
        "device": "a machine",
        "python": "3.12.1",
        "versions": {"jax": "0.12"},
        "commit": "0123456789",
        "time": "2026-01-01T00:00:00+00:00",
    }
    other = scaling | {"device": "another", "results": [scaling["results"][0] | {"prime": 197}]}
    # Parts that were measured by calls of their own are lines of one file.
    lines = [json.dumps(record) + "\n" for record in (scaling, other)]
    (tmp_path / "scaling.json").write_text("".join(lines))
    text = page.write(tmp_path)
    assert text == (tmp_path / "README.md").read_text()
    assert text.count("## scaling") == 1 and "on another; Python" in text
    assert text.index("on a machine") < text.index("113") < text.index("on another")
    assert text.index("on another") < text.index("197")
    assert "on a machine; Python 3.12.1, jax 0.12; commit 0123456, 2026-01-01" in text
    row = next(line for line in text.splitlines() if line.startswith("| mlp"))
    assert row.endswith("| **1.04** (5: 10.00 ms, 45: 10.40 ms) | ≤ 1.1 |")


def test_another_version_takes_turns_under_a_name_of_its_own(tmp_path):
    package = tmp_path / "experiments/benchmarks"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "batches.py").write_text(
        "def make(kind, *_):\n    return {kind: lambda: 2.5}, {'losses': [5.0, 4.5]}\n"
    )
    with turns.Worker(train.of_checkout, str(tmp_path), "mlp", 113, [1], None) as old:
        assert old.names == ["old mlp"]
        assert old.seconds("old mlp") == 2.5
        assert list(old.told["losses"]["grokjax"]) == [5.0, 4.5]
