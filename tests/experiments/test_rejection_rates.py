"""The table of rejection rates, of few simulated sweeps."""

import numpy as np
import pandas as pd
import pytest

from experiments import rejection_rates


@pytest.mark.parametrize("name", rejection_rates.SCENARIOS)
def test_every_test_has_something_to_reject_and_a_null(name):
    frame = rejection_rates.cell(name, 5, n_sweeps=4)
    again = rejection_rates.cell(name, 5, n_sweeps=4)
    pd.testing.assert_frame_equal(frame, again)
    assert set(frame["test"]) <= set(rejection_rates.TESTS)
    assert set(rejection_rates.SCENARIOS[name].null) <= set(frame["test"])
    assert frame["rejected"].between(0, 4).all()


def test_curves_are_as_the_page_says():
    rng = np.random.default_rng(0)
    smooth = rejection_rates.curves(rng, np.array([10.0, 30.0]), 1.0, 0.0)
    assert smooth.shape == (2, 61)
    assert smooth[0, 10] == smooth[1, 30] == 0.5
    assert smooth[0, 8] == pytest.approx(0.12, abs=2e-3)
    noise = rejection_rates.curves(rng, np.full(3000, 500.0), 1.0, 0.2)
    np.testing.assert_allclose(noise.std(axis=0), 0.2, rtol=0.08)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2)
    assert neighbours == pytest.approx(0.9, abs=0.01)
    came = rejection_rates.two_groups(rng, 20_000, later=1.0)[0]
    assert np.isnan(came).mean() == pytest.approx(0.186, abs=0.01)
    assert np.nanmax(came) <= 20_000


def test_cells_that_are_there_are_not_done_again(tmp_path, monkeypatch):
    names = ("same steps", "equality")
    few = {name: rejection_rates.SCENARIOS[name] for name in names}
    monkeypatch.setattr(rejection_rates, "SCENARIOS", few)
    monkeypatch.setattr(rejection_rates, "N_SEEDS", (5,))
    path = tmp_path / "rates.csv"
    held = rejection_rates.cell("same steps", 5, n_sweeps=7)
    pd.concat([held, rejection_rates.cell("equality", 5, n_sweeps=7)]).to_csv(path, index=False)
    frame = rejection_rates.measure(path, 1)
    assert list(frame["test"]) == ["log-rank", *rejection_rates.VERDICTS]
    assert (frame["n_sweeps"] == 7).all()
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), pd.read_csv(path))


def test_page_shows_what_does_not_keep_its_level(tmp_path):
    frame = pd.DataFrame(
        {
            "test": ["exchange"] * 3 + ["lead"],
            "scenario": ["together", "unrelated, anywhere", "unrelated, anywhere", "together"],
            "n_seeds": [5, 5, 10, 5],
            "n_sweeps": 500,
            "rejected": [250, 40, 30, 20],
            "is_null": [False, True, True, True],
        }
    )
    path = tmp_path / "README.md"
    path.write_text(f"old\n{rejection_rates.MEANING}\nIt fails.\n")
    rejection_rates.write(path, frame, 120.0)
    lines = path.read_text().splitlines()
    assert "| exchange | together | yes | 50.0 | – |" in lines
    assert "| exchange | unrelated, anywhere | no | **8.0** | 6.0 |" in lines
    assert "| lead | together | no | 4.0 | – |" in lines
    assert lines[-1] == "It fails." and "old" not in lines
