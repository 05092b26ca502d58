# ruff: noqa: D100, E402 - a notebook: text instead of a docstring, cells import what they use
# %% [markdown]
# # A tour: load a sweep, watch a loop being born, test a cloud of your own
#
# Cells of a notebook in an editor that knows `# %%`; as a script,
# `python experiments/tour.py work/quick` (the work directory that `bash launch/local.sh` makes).
# It takes seconds and writes `tour-birth.svg` and `tour-h1_max.svg` into the directory's `figures`.

# %%
import pathlib
import sys

import grokjax

WORKDIR = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else "work/quick")
sweep = grokjax.load(WORKDIR)

# %% [markdown]
# ## What came out
#
# Every table is a pandas frame. A run has *generalised* at the first checkpoint with a test
# accuracy of 0.9; runs whose labels were permuted are the control, and should not.

# %%
from grokjax.settings import labels

runs = sweep.runs
by_setting = runs.groupby(labels.settings(runs), sort=False, dropna=False)
print(by_setting["generalisation_step"].agg(["size", "count", "median"]))

# %%
from grokjax.report import figures

(WORKDIR / "figures").mkdir(exist_ok=True)
if "persistence" in sweep.tables():
    figure = figures.topology(runs, sweep.persistence, "h1_max")
    figures.save(figure, WORKDIR / "figures" / "tour-h1_max.svg")

# %% [markdown]
# ## The birth of a loop
#
# One run: the earliest to generalise, or the first if none did. At a few checkpoints its embedding,
# as the diagnostics saw it (centred, rows of unit length), and the persistence diagrams of that
# cloud. H1 is what loops leave: a point far above the diagonal is a loop that lives long.

# %%
grown = runs.dropna(subset="generalisation_step").sort_values("generalisation_step")
run = (grown if len(grown) else runs).iloc[0]
run_id, when = run["run_id"], run["generalisation_step"]

# %%
from grokjax.report.snapshots import telling_steps

steps = telling_steps(sweep.steps(run_id), int(when) if len(grown) else None)
clouds = {step: sweep.cloud(run_id, step) for step in steps}
diagrams = {step: sweep.diagram(run_id, step) for step in steps}
curve = sweep.metrics.query("run_id == @run_id")

# %% [markdown]
# H1 max at every checkpoint is in the table of persistence. Here it is computed from the
# checkpoints instead, to show how: infinite bars, which only degree 0 has, count nowhere.

# %%
from grokjax.diagnostics import persistence

summaries = {step: persistence.summarize(sweep.diagram(run_id, step)) for step in curve["step"]}
curve = curve.assign(h1_max=[summaries[step].h1_max for step in curve["step"]])
print(curve[["step", "train_accuracy", "test_accuracy", "h1_max"]].to_string(index=False))

# %% [markdown]
# A network that computes with a wave of frequency k lays residue r at the angle 2πkr/p. Joining
# residues in the order of the wave that is strongest in the last picture shows whether it did. (The
# task says in which order its elements are a cycle; those of a group that is none are not joined.)

# %%
from grokjax.report import planes

structure = sweep.view(run_id, steps[-1]).structure
order = planes.reading_order(len(clouds[steps[-1]]), structure)
ordered = {step: cloud[order] for step, cloud in clouds.items()}
last_plane, _ = planes.principal_plane(ordered[steps[-1]])
frequency = planes.circle_frequency(last_plane, structure)
figure = figures.birth(curve, ordered, diagrams, frequency=frequency, title=run_id)
figures.save(figure, WORKDIR / "figures" / "tour-birth.svg")

# %% [markdown]
# ## Is that loop more than noise makes?
#
# Random points have H1 bars too. The same number of random points in as many dimensions,
# normalised in the same way, give the length to compare with.

# %%
import numpy as np

from grokjax.clouds import normalize


def longest_bars(points):
    """H1 max and the second longest bar of a cloud."""
    found = persistence.summarize(persistence.diagrams(points))
    return found.h1_max, found.h1_second


random = np.random.default_rng(0)
shape = clouds[steps[-1]].shape
noise = [longest_bars(normalize(random.normal(size=shape)))[0] for _ in range(20)]
print(f"H1 max: {longest_bars(clouds[steps[0]])[0]:.3f} at step {steps[0]:,}, ", end="")
print(f"{longest_bars(clouds[steps[-1]])[0]:.3f} at step {steps[-1]:,}; ", end="")
print(f"random clouds {np.mean(noise):.3f} ± {np.std(noise, ddof=1):.3f}")

# %% [markdown]
# ## A cloud of your own
#
# Any (n, d) array will do. A circle with a little noise has one long bar in degree 1, a torus two,
# and a blob none.

# %%
n = 200
a, b = random.uniform(0, 2 * np.pi, size=(2, n))
own = {
    "circle": np.stack([np.cos(a), np.sin(a)], axis=1),
    "torus": np.stack([np.cos(a), np.sin(a), np.cos(b), np.sin(b)], axis=1),
    "blob": random.normal(size=(n, 4)),
}
for name, points in own.items():
    first, second = longest_bars(points + random.normal(scale=0.05, size=points.shape))
    print(f"{name:6} H1: longest bar {first:.2f}, second {second:.2f}")
