"""How many holes: planted waves, spaces and noise, and trained embeddings.

Question: are circle, torus and two circles told apart, how often, and what do trained embeddings
show?
Command: python -m experiments.holes [--embeddings FILE.npz …] [--draws N] [--folder FOLDER]; two
cores, about five minutes with fifteen embeddings. Files are those of ``experiments.waves``. Without
files only planted clouds are measured.
Found: experiments/results/holes/README.md.

Every cloud is measured as the lens ``holes`` does, with 19 surrogates and unit rows where they are
embeddings. *Right* is a stretch of the planted space's numbers among those longer than chance's;
*longest right*, that it is the longest; *other* another space and not the right one; the rest is
undecided. Waves have planes of their own, as in ``experiments.waves``; of m of them the space is a
circle, a torus, for three a 3-torus; for six there is no name, and any is *other*.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

import grokjax
from experiments import html_page
from experiments.waves import last_embeddings, planted
from grokjax.diagnostics import holes

FOLDER = pathlib.Path(__file__).parent / "results" / "holes"
NOISE = (0.05, 0.1, 0.2)
SURROGATES = 19
Draw = Callable[[int, float, int], np.ndarray]  # points, noise, seed → cloud


def _circle(n: int) -> np.ndarray:
    turns = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _noisy(points: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of that share of the points' norm, in as many dimensions."""
    scale = np.linalg.norm(points) / points.size**0.5
    return points + noise * scale * rng.normal(size=points.shape)


def two_circles(n: int, noise: float, seed: int) -> np.ndarray:
    """Two circles in a plane that touch in a point."""
    left = _circle((n + 1) // 2) - [1.0, 0.0]
    return _noisy(np.concatenate([left, -left[1:]]), noise, np.random.default_rng([n, seed]))


def sphere(n: int, noise: float, seed: int) -> np.ndarray:
    """A Fibonacci lattice on a sphere."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    ring = np.sqrt(1 - height**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    return _noisy(points, noise, np.random.default_rng([n, seed]))


def torus(n: int, noise: float, seed: int) -> np.ndarray:
    """Uniform angles on a flat torus in four dimensions."""
    rng = np.random.default_rng([n, seed])
    turns = rng.uniform(0, 2 * np.pi, (n, 2))
    return _noisy(np.concatenate([np.cos(turns), np.sin(turns)], axis=1), noise, rng)


def gaussian(n: int, noise: float, seed: int, width: int) -> np.ndarray:
    """Noise alone."""
    return np.random.default_rng([n, seed]).normal(size=(n, width))


def _waves(m: int, n: int, noise: float, seed: int) -> np.ndarray:
    return planted(n, m, noise, seed)[0]


TRUTHS: dict[str, tuple[str, Draw]] = {
    **{
        f"{m} wave{'s' if m > 1 else ''}": (space, functools.partial(_waves, m))
        for m, space in {1: "circle", 2: "torus", 3: "3-torus", 6: "none"}.items()
    },
    "torus, uniform": ("torus", torus),
    "two circles": ("two circles", two_circles),
    "sphere": ("sphere", sphere),
    "noise, 4 columns": ("none", functools.partial(gaussian, width=4)),
    "noise, 128 columns": ("none", functools.partial(gaussian, width=128)),
}


def named(points: np.ndarray, seed: int) -> list[str]:
    """Spaces of the stretches longer than chance's, the longest first."""
    found = holes.compare(points, SURROGATES, seed=(seed,))
    told = [holes.name_of(*own) for own in zip(found.stretches, found.p_values, strict=True)]
    return [name for name in told if name != holes.UNDECIDED]


def planted_table(draws: int) -> pd.DataFrame:
    """A row a truth, size and noise: of the draws, how many are called what."""
    rows = []
    for truth, (space, draw) in TRUTHS.items():
        for n in (59, 113):
            for noise in NOISE if not truth.startswith("noise") else (1.0,):
                told = [named(draw(n, noise, seed), seed) for seed in range(draws)]
                right = sum(space in names for names in told)
                rows.append(
                    {
                        "truth": truth,
                        "points": n,
                        "noise": noise,
                        "right": right,
                        "longest right": sum(names[:1] == [space] for names in told),
                        "other": sum(bool(names) and space not in names for names in told),
                        "undecided": sum(not names for names in told),
                        "of": draws,
                    }
                )
    return pd.DataFrame(rows)


def trained_table(path: pathlib.Path) -> pd.DataFrame:
    """A row a seed's last embedding: stretches, long bars, waves and their planes."""
    rows = []
    for seed, step, raw in last_embeddings(path):
        found = holes.compare(
            raw, SURROGATES, seed=(seed,), normalise=grokjax.clouds.normalize, n_threads=2
        )
        long = [
            f"{holes.name_of(own, p)} ({own.b0}, {own.b1}, {own.b2}) × {own.ratio:.3f}"
            for own, p in zip(found.stretches, found.p_values, strict=True)
            if p <= holes.LEVEL
        ]
        n_waves, planes = holes.compare_planes(raw, SURROGATES, (seed,))
        row: dict[str, Any] = {"seed": seed, "step": step, "stretches": "; ".join(long[:5])}
        row |= {"longest ratio": found.stretches[0].ratio, "its p": found.p_values[0]}
        row |= {f"long H{k} bars": holes.n_long(found.diagrams[k]) for k in (1, 2)}
        row |= {"waves": n_waves, "planes with a circle": sum(p["p_value"] <= 0.05 for p in planes)}
        told = [f"{p['frequency']} ({p['purity']:.2f}, {p['aspect']:.2f})" for p in planes[:6]]
        row["strongest (purity, aspect)"] = ", ".join(told)
        rows.append(row)
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a table as CSV for the planted clouds and one for each file, and prints them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--embeddings", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        path.parent.name: functools.partial(trained_table, path) for path in arguments.embeddings
    }
    makers |= {"planted": functools.partial(planted_table, arguments.draws)}
    for name, make in makers.items():
        frame = make()
        frame.to_csv(arguments.folder / f"{name}.csv", index=False, float_format="%.4g")
        print(f"{name}\n{html_page.markdown(frame)}", flush=True)


if __name__ == "__main__":
    main()
