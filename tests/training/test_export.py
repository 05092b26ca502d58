"""The programs as TPUs and GPUs get them: lowered here, for devices that are not at hand."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from grokjax.models import products
from grokjax.settings.config import TrainConfig
from grokjax.training import data, mapped
from grokjax.training.step import Program
from tests.helpers import make_runs

EVERYTHING = {
    "equals_token": [True], "causal": [True], "attention_rate": [0.5], "layer_norm": ["post"],
    "separate_embeddings": [True], "activation": ["quadratic"], "optimizer": ["muon"],
    "orthogonal_gradient": [True], "schedule": ["cosine"], "loss": ["stablemax"],
    "batch_size": [0],
}  # fmt: skip


# Each layout with the platform it is for.
LAYOUTS = [("transformer", "tpu", "tpu"), ("transformer", "gpu", "cuda"), ("mlp", "tpu", "tpu"),
           ("everything", "gpu", "cuda"), ("everything", "tpu", "tpu")]  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: "-".join(layout[:2]))
def lowered(request):
    """StableHLO of the training and of the evaluation program."""
    name, platform, lowered_for = request.param
    axes = EVERYTHING if name == "everything" else {"model": [name]}
    runs = make_runs(prime=[13, 23], **axes)
    program, mesh = Program.of(runs, TrainConfig()), mapped.runs_mesh(1)
    stacked = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, data.stack(runs)))
    state = jax.eval_shape(lambda runs: mapped.init(program, mesh)(runs), stacked)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    programs = {
        "training": (mapped.train_chunk, (program, mesh, 2), (state, stacked, step)),
        "evaluation": (mapped.evaluate, (program, mesh), (state.params, stacked)),
    }
    with pytest.MonkeyPatch.context() as patch:
        # What accelerators run: all runs at once. Not cached, since CPUs get another program.
        patch.setattr(mapped, "_one_by_one", lambda mesh: False)
        patch.setattr(products, "platform", lambda: platform)
        return {
            name: export.export(make.__wrapped__(*made_of), platforms=[lowered_for])(*arguments)
            for name, (make, made_of, arguments) in programs.items()
        }


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_programs_lower_for_tpu_and_gpu(lowered, name):
    text = lowered[name].mlir_module()
    # Nothing that only one vendor's runtime knows.
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"Sharding"}
    assert not re.findall(r"f64|i64>.*stablehlo.dot", text)


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_no_runs_talk_and_none_is_looped_over(lowered, name):
    text = lowered[name].mlir_module()
    for word in ("all_reduce", "all_gather", "all_to_all", "collective_permute", "reduce_scatter"):
        assert f"stablehlo.{word}" not in text
    # Products of both runs at once: batched over the leading axis.
    assert re.search(r"dot_general.*batching_dims = \[0\] x \[0\].*tensor<2x", text)


def test_the_training_step_scatters_nothing(lowered):
    assert "stablehlo.scatter" not in lowered["training"].mlir_module()


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_every_product_is_of_full_precision(lowered, name):
    products = re.findall(r"stablehlo\.dot_general.*", lowered[name].mlir_module())
    assert len(products) >= 5
    for product in products:
        assert "precision = [HIGHEST, HIGHEST]" in product
