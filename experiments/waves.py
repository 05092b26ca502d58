"""Which waves the loops of an embedding are: circular coordinates beside the residues.

Question: persistent homology shows loops; is one of them the residues going round, k·x/p?
Command: python -m experiments.waves [--embeddings FILE.npz …] [--folder FOLDER]; two cores, about
four minutes with fifteen embeddings. A file holds raw embeddings (p, d) named s<seed>_<step>; the
last step of each seed is taken. Without files only planted embeddings and noise are made.
Found: experiments/results/waves/README.md.

Planted embeddings give each wave a plane of its own, drawn at random, and Gaussian noise of a share
of the signal's norm; a frequency counts as recovered where some coordinate of the shortest basis
follows its wave with a correlation of at least 0.95.
"""

import argparse
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

import grokjax
from experiments import html_page
from grokjax.diagnostics import coordinates, fourier

FOLDER = pathlib.Path(__file__).parent / "results" / "waves"
CLASSES = 4  # of a trained embedding
RECOVERED = 0.95
WIDTH, DRAWS = 128, 5
NOISES = {113: 20, 197: 10}  # points → clouds of noise


def planted(p: int, n_waves: int, noise: float, seed: int) -> tuple[np.ndarray, set[int]]:
    """An embedding (p, 128) of waves in planes of their own, unit rows; and their frequencies."""
    rng = np.random.default_rng([p, n_waves, seed])
    frequencies = rng.choice(np.arange(1, p // 2 + 1), n_waves, replace=False)
    turns = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    planes = np.linalg.qr(rng.normal(size=(WIDTH, 2 * n_waves)))[0].T
    rows = np.concatenate([np.cos(turns), np.sin(turns)], axis=1) @ planes
    rows = rows + noise * np.sqrt(n_waves / WIDTH) * rng.normal(size=rows.shape)
    return grokjax.clouds.normalize(rows), set(frequencies.tolist())


def recovered(points: np.ndarray, n_classes: int) -> set[int]:
    """Frequencies that some coordinate of the shortest basis follows; none without a lift."""
    try:
        found = coordinates.circular(points, n_classes)
    except ValueError:
        return set()
    waves = [coordinates.wave(angles, 1) for angles in found.reduced.T]
    return {one.frequency for one in waves if one.correlation >= RECOVERED}


def planted_table() -> pd.DataFrame:
    """A row a number of waves, size and noise: how many of the waves are recovered."""
    rows = []
    for p in (59, 113):
        for n_waves in (1, 2, 3, 6):
            for noise in (0.05, 0.1, 0.2):
                drawn = [planted(p, n_waves, noise, seed) for seed in range(DRAWS)]
                found = [(recovered(points, n_waves), true) for points, true in drawn]
                right = [len(ours & true) for ours, true in found]
                rows.append(
                    {
                        "p": p,
                        "waves": n_waves,
                        "noise": noise,
                        "recovered": f"{np.mean(right):.1f}",
                        "all, of draws": f"{right.count(n_waves)} of {DRAWS}",
                        "others": sum(len(ours - true) for ours, true in found),
                    }
                )
    return pd.DataFrame(rows)


def noise_table() -> pd.DataFrame:
    """A row a class of a normal cloud: how well the best of (p − 1)/2 waves fits by chance."""
    rows = []
    for p, draws in NOISES.items():
        for seed in range(draws):
            points = np.random.default_rng([p, seed]).normal(size=(p, WIDTH))
            found = coordinates.circular(grokjax.clouds.normalize(points), CLASSES)
            for place, angles in enumerate(found.reduced.T):
                own = coordinates.wave(angles)
                row = {"p": p, "seed": seed, "place": place}
                row |= {"reduced residual": found.reduced_residuals[place]}
                rows.append(row | {"reduced correlation": own.correlation})
    return pd.DataFrame(rows)


def last_embeddings(path: pathlib.Path) -> Iterator[tuple[int, int, np.ndarray]]:
    """Seed, step and raw embedding (p, d) of the last step of each seed in a file."""
    stored = np.load(path)
    last: dict[int, int] = {}
    for name in stored.files:
        seed, step = map(int, name.removeprefix("s").split("_"))
        last[seed] = max(step, last.get(seed, 0))
    for seed, step in sorted(last.items()):
        yield seed, step, stored[f"s{seed}_{step}"].astype(np.float64)


def trained_table(path: pathlib.Path) -> pd.DataFrame:
    """A row a class of each seed's last embedding, the longest bar's first."""
    rows = []
    for seed, step, raw in last_embeddings(path):
        power = fourier.spectrum(raw - raw.mean(axis=0))
        strong = np.argsort(-power)[:5]
        share = power / power.sum()
        found = coordinates.circular(grokjax.clouds.normalize(raw), CLASSES)
        for place, (birth, death) in enumerate(found.bars):
            row: dict[str, Any] = {"seed": seed, "step": step, "place": place}
            row |= {"birth": birth, "death": death, "bar p": found.p_values[place]}
            for of, angles, residuals in (
                ("", found.angles, found.residuals),
                ("reduced ", found.reduced, found.reduced_residuals),
            ):
                own = coordinates.wave(angles[:, place])
                row |= {f"{of}residual": residuals[place], f"{of}frequency": own.frequency}
                row |= {f"{of}correlation": own.correlation}
            row["strongest frequencies"] = ", ".join(f"{k} ({share[k]:.2f})" for k in strong)
            rows.append(row)
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a table as CSV for planted embeddings, noise and each file, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    makers = {path.parent.name: functools.partial(trained_table, path)
              for path in arguments.embeddings}  # fmt: skip
    for name, make in {"planted": planted_table, "noise": noise_table, **makers}.items():
        frame = make()
        frame.to_csv(arguments.folder / f"{name}.csv", index=False, float_format="%.4g")
        print(f"{name}\n{html_page.markdown(frame)}", flush=True)


if __name__ == "__main__":
    main()
