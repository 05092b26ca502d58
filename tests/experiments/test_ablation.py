"""Interventions over seeds: which runs count, signs, exact intervals, the figure."""

import numpy as np
import pandas as pd
import pytest

from experiments import ablation
from tests.report.test_figures import tables


class Made:
    """Tables as a pool gives them."""

    def __init__(self, **tables):
        self.tables = tables

    def table(self, name):
        return self.tables[name]


def made(extra, n_seeds=8):
    """Runs whose strongest wave costs this much more accuracy than random planes of its power."""
    runs, _ = tables([[0.0]] * n_seeds, status="done", prime=[23, 29])
    runs["generalisation_step"] = pd.array([500] * len(runs), "Int64")
    runs.loc[0, "generalisation_step"] = pd.NA
    rows = []
    for place, run_id in enumerate(runs["run_id"]):
        for step in (500, 1000):
            for subspace in ("wave1", "loop"):
                for pairs in ("train", "test"):
                    random = 0.5 + place / 100
                    accuracy = random - (extra if subspace == "wave1" else 0)
                    # A run that fell back does not count.
                    before = 0.6 if place == 1 and step == 1000 else 1.0
                    rows.append(
                        {"run_id": run_id, "step": step, "subspace": subspace, "pairs": pairs}
                        | {"intervention": "removed", "power": 0.25, "overlap": 0.1}
                        | {"accuracy_before": before, "accuracy": accuracy}
                        | {"random_accuracy": random, "random_accuracy_sd": 0.01}
                        | {"accuracy_lost": (before - accuracy) / 0.25}
                        | {"random_accuracy_lost": (before - random) / 0.25}
                        | {"loss": 2 - accuracy, "random_loss": 2 - random}
                        | {"loss_gained": 1.0, "random_loss_gained": 1.0}
                    )
    return Made(runs=runs, ablation=pd.DataFrame(rows))


@pytest.mark.parametrize(("extra", "word"), [(0.2, "more"), (-0.2, "less"), (0.0, "neither")])
def test_what_costs_more_than_random_planes_do(extra, word):
    pool = made(extra)
    output = ablation.output(pool)
    found = output.numbers.set_index(["setting", "subspace"])
    first, second = (name for name in dict.fromkeys(output.numbers["setting"]))
    wave, loop = found.loc[(first, "wave1")], found.loc[(first, "loop")]
    assert wave["n"] == 6 and found.loc[(second, "wave1")]["n"] == 8
    assert wave["accuracy_difference"] == pytest.approx(extra)
    assert wave["loss_difference"] == pytest.approx(extra)
    assert wave["accuracy_more"] == wave["loss_more"] == (6 if extra > 0 else 0)
    assert loop["accuracy_difference"] == 0 and np.isnan(loop["p_accuracy"])
    if extra:
        assert wave["p_accuracy"] == pytest.approx(2 * 0.5**6)
    texts = ablation.conclusion(output.numbers)
    assert len(texts) == 2 and f"It costs {word} " in texts[0]
    assert texts[0] in output.page
    panels = [axes for axes in output.figure.axes if axes.get_title()]
    assert [axes.get_title().replace("\n", " ") for axes in panels] == [first, second]


def test_settings_are_averaged_seed_by_seed():
    pool = made(0.2)
    runs = pool.tables["runs"]
    runs["prime"] = 23
    runs["weight_decay"] = np.repeat([1.0, 2.0], len(runs) // 2)
    pool.tables["ablation"].loc[
        pool.tables["ablation"]["run_id"].isin(runs["run_id"][:8]), "random_accuracy"
    ] += 0.1
    found = ablation.table(ablation.last_rows(pool)).set_index(["setting", "subspace"])
    row = found.loc[("transformer, p = 23, mean over settings", "loop")]
    # Two seeds have one setting that counts, six have two, one of which is a tenth higher.
    assert row["n"] == 8
    assert row["accuracy_difference"] == pytest.approx(0.05)
    assert row["accuracy_more"] == 6
    figure = ablation.draw(ablation.last_rows(pool))
    assert [axes.get_title() for axes in figure.axes] == ["transformer, p = 23"]
