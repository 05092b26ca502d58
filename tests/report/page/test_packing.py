"""Matrices as text and back."""

import json

import numpy as np

from grokjax.report import page
from tests.report import packed
from tests.report.packed import unpack


def test_packing_keeps_all_but_the_last_bits():
    rows = np.random.default_rng(0).normal(size=(20, 300)) * np.logspace(-9, 9, 20)[:, None]
    rows[3, 7], rows[4, 8], rows[5] = np.nan, np.inf, -np.inf
    back = unpack(json.loads(json.dumps(page.pack(rows))))
    there = np.isfinite(rows)
    assert (np.isfinite(back) == there).all()
    known = np.where(there, rows, 0)
    span = np.where(there, rows, -np.inf).max(1) - np.where(there, rows, np.inf).min(1)
    for i in set(range(20)) - {5}:
        gap = np.abs(back[i] - rows[i])[there[i]]
        assert gap.max() <= span[i] / 131_068 + 1.2e-7 * np.abs(known[i]).max()
    same = unpack(page.pack([[2.5, 2.5, np.nan]]))
    np.testing.assert_array_equal(same, [[2.5, 2.5, np.nan]])
    assert unpack(page.pack(np.zeros((3, 0)))).shape == (3, 0)


def test_floats_are_those_of_single_precision():
    rows = np.array([[1 / 3, np.nan], [1e-30, -1e30]])
    back = packed.floats(json.loads(json.dumps(page.floats(rows))))
    np.testing.assert_array_equal(back, rows.astype(np.float32))
