"""The table of precisions, from runs made up here."""

import pandas as pd

from experiments import precision


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
