import numpy as np
import pytest

from grokjax import statistics


class TestSteps:
    steps = np.arange(0, 3000, 500)

    def test_first_at_or_above_even_if_it_falls_again(self):
        values = [0.1, 0.89, 0.9, 0.2, 0.95, 1.0]
        assert statistics.first_step(self.steps, values, 0.9) == 1000
        assert isinstance(statistics.first_step(self.steps, values, 0.9), int)

    def test_never_reached(self):
        assert statistics.first_step(self.steps, np.full(6, 0.5), 0.9) is None
        assert statistics.first_step([], [], 0.9) is None

    def test_nan_never_counts(self):
        values = [np.nan, np.nan, 0.95, np.nan, 1.0, np.nan]
        assert statistics.first_step(self.steps, values, 0.9) == 1000
        assert statistics.first_step(self.steps, np.full(6, np.nan), 0.9) is None

    def test_single_precision_reaches_the_threshold_it_equals(self):
        for threshold in (0.9, 0.99):
            values = np.array([0, 0, threshold, 1, 1, 1], np.float32)
            assert statistics.first_step(self.steps, values, threshold) == 1000

    def test_default_thresholds(self):
        accuracy = [0.1, 0.89, 0.9, 0.98, 0.99, 1.0]
        assert statistics.generalisation_step(self.steps, accuracy) == 1000
        assert statistics.memorisation_step(self.steps, accuracy) == 2000

    def test_threshold_sensitivity(self):
        accuracy = [0.1, 0.6, 0.9, 0.92, 0.96, 0.96]
        assert statistics.threshold_sensitivity(self.steps, accuracy) == {
            0.5: 500,
            0.8: 1000,
            0.9: 1000,
            0.95: 2000,
            0.99: None,
        }

    def test_rejects(self):
        with pytest.raises(ValueError, match="strictly increasing"):
            statistics.first_step([0, 500, 500], [0, 0, 1], 0.9)
        with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\)"):
            statistics.first_step([0, 500, 1000], [0, 1], 0.9)
        with pytest.raises(ValueError, match="threshold is nan"):
            statistics.first_step([0, 500], [0, 1], np.nan)
        with pytest.raises(ValueError, match="infinite at position 1"):
            statistics.first_step([0, 500], [0, np.inf], 0.9)
