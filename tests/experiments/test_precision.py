"""The table of precisions, from runs made up here."""

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import precision
from grokjax.models import products
from grokjax.settings.config import PRECISIONS


def runs(steps):
    """A table of runs that generalise at these steps."""
    index = pd.MultiIndex.from_product([[29, 31], range(len(steps) // 2)], names=precision.AXES)
    columns = {"memorisation_step": 100.0, "generalisation_step": steps}
    return pd.DataFrame(columns, index=index)


def test_runs_are_compared_with_their_own_twins():
    first = runs([1000.0, 3000.0, 2000.0, 5000.0])
    later = runs([1100.0, 3100.0, 2300.0, None])
    found = precision.table({"float32": first, "bfloat16": later[::-1]}).set_index("precision")
    assert list(found["generalised"]) == [4, 3]
    assert list(found["median step"]) == [2500, 2300]
    assert list(found["median of differences"]) == [0, 100]
    assert list(found["largest difference"]) == [0, 300]
    assert list(found["95 % interval"]) == ["–", "100 to 300"]


def test_runs_that_never_generalise_leave_no_number():
    found = precision.table({"float32": runs([None, None])})
    assert found["median step"].isna().all()
    assert found["median of differences"].isna().all()


def test_combinations_have_names():
    assert precision.name_of("bfloat16", "float32") == "bfloat16"
    assert precision.name_of("float32", "float64") == "float32, float64 loss"


@pytest.mark.parametrize("name", ["bfloat16", "bfloat16x3"])
def test_products_are_those_that_a_cpu_trains_with(name):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=size).astype(np.float32) for size in ((20, 50), (50, 10)))
    with jax.default_matmul_precision(PRECISIONS[name]):
        wanted = np.asarray(products.product(x, y))
    found = precision.product(name, x, y)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - x.astype(np.float64) @ y).max() > (1e-3 if name == "bfloat16" else 1e-5)


def test_errors_grow_as_precisions_fall():
    table = precision.errors().set_index("precision").astype(float)
    assert list(table.index) == list(PRECISIONS)
    for column in table:
        in_order = table.loc[["float32", "tf32x3", "bfloat16x3", "tf32", "bfloat16"], column]
        assert in_order.iloc[1:].is_monotonic_increasing
        # Three passes are a hundred times as exact as one, and those of TF32 as float32.
        assert table.loc["bfloat16x3", column] < table.loc["bfloat16", column] / 100
        assert table.loc["tf32x3", column] < 2 * table.loc["float32", column]
