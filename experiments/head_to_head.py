"""Which quantity at a checkpoint predicts best how long it still takes to generalise?

Question: what is known at step t, in the weights or of the answers, about the steps that remain?
Command:  python -m experiments.head_to_head --workdirs=W,W… --out=FOLDER [--horizon=STEPS]
          (networks: experiments/head_to_head.flags, with persistence, fourier and dimension);
          --checkpoints=FOLDER/checkpoints.csv instead of --workdirs does without the networks
Device:   2 CPU cores, 5 minutes; checkpoints are read for norms and ranks of embeddings, once.
Expected: FOLDER/head_to_head.csv, .html and a figure; experiments/results/head_to_head/README.md.

What is predicted is min(remaining steps, horizon), from every checkpoint that comes before
generalisation and at least a horizon before the end of the run. It is known exactly of each, also
in runs that never generalise: nothing is imputed, and no run is left out for being slow (as in the
restricted mean survival time of Royston and Parmar 2013, BMC Med. Res. Methodol. 13, 152).

Errors are of nested cross-validation. The outer folds leave out whole seeds, of all settings, since
runs of one seed share split and initial weights; or whole settings, and then the seeds that are
tested on as well. Inner folds, which choose the model, leave out the same. The model is one of
splines in ranks with a ridge, and extremely randomised trees. Errors are absolute, a mean over a
seed's checkpoints and then over seeds; intervals are bootstrapped over seeds, at a level corrected
for the number of quantities, and take the fitted models as they are.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer

from experiments import artefact, html_page
from experiments.artefact import Output
from experiments.evidence import Folder, Pool
from grokjax import statistics
from grokjax.diagnostics import ranks
from grokjax.report import figures, panels
from grokjax.settings import labels

# Name → table, column, cloud. Trees and ranks take no notice of the scale, so no logarithms.
TABLES: Mapping[str, tuple[str, str, str]] = {
    "H1 max": ("persistence", "h1_max", "embedding"),
    "H1 total": ("persistence", "h1_total", "embedding"),
    "H0 total": ("persistence", "h0_total", "embedding"),
    "spectrum concentration": ("fourier", "concentration", ""),
    "local dimension, embedding": ("dimension", "lid_mean", "embedding"),
    "local dimension, last layer": ("dimension", "lid_mean", "layer2_both"),
    "weight norm": ("metrics", "weight_norm", ""),
    "train loss": ("metrics", "train_loss", ""),
    "excluded loss": ("fourier", "excluded_loss", ""),
    "restricted loss": ("fourier", "restricted_loss", ""),
    "test loss": ("metrics", "test_loss", ""),
}
FROM_CHECKPOINTS = ("embedding norm", "effective rank")
# Are counted on pairs that the network was not trained on.
READ_TEST_PAIRS = ("restricted loss", "test loss")
QUANTITIES = (*TABLES, *FROM_CHECKPOINTS)
CONSTANT, STEP = "constant", "step"
ALL, UNSEEING = "all together", "all that need no test pairs"
SCHEMES = {"seeds": "new seeds, known settings", "settings": "new settings, new seeds"}
BETTER, WORSE, NEITHER = "better than the step", "worse than the step", "no better than the step"
LEVEL = 0.05
OUTER, INNER, TREES = 5, 3, 30
HEADINGS = {
    "scheme": "left out",
    "quantity": "quantity",
    "alone": "error alone, steps",
    "with_step": "error with the step",
    "gain": "gain over the step",
    "low": "from",
    "high": "to",
    "best": "best in, %",
    "verdict": "verdict",
}
Floats = NDArray[np.float64]
Folds = Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]


# --------------------------------------------------------------------------- what is known


def known(pool: Pool) -> pd.DataFrame:
    """A row a run and checkpoint: setting, seed, step, last step, generalisation, quantities."""
    runs = pool.table("runs")
    runs = runs[~runs["status"].isin(("diverged", "failed"))].reset_index(drop=True)
    frame = pool.table("metrics")[["run_id", "step"]]
    for name, (table, column, cloud) in TABLES.items():
        rows = pool.table(table)
        rows = rows[rows["cloud"] == cloud] if cloud else rows
        own = rows[["run_id", "step", column]].rename(columns={column: name})
        frame = frame.merge(own, on=["run_id", "step"], how="left")
    settings = {
        run_id: setting.name for setting in labels.group(runs) for run_id in setting.run_ids
    }
    described = runs[["run_id", "seed", "generalisation_step"]].astype(
        {"generalisation_step": float}
    )
    frame = frame.merge(described, on="run_id")
    frame["setting"] = frame["run_id"].map(settings)
    frame["last"] = frame.groupby("run_id")["step"].transform("max")
    return frame


def of_embeddings(pool: Pool, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with norm and effective rank of each embedding, from its checkpoint."""
    found = []
    for run_id, step in frame[["run_id", "step"]].itertuples(index=False):
        rows = pool.sweep_of(run_id).checkpoint(run_id, step)["embed"]["embedding"]
        centred = rows - rows.mean(axis=0)
        found.append((float(np.linalg.norm(centred)), ranks.of_points(rows).effective_rank))
    return frame.assign(**dict(zip(FROM_CHECKPOINTS, np.array(found).T, strict=True)))


def asked(frame: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """The rows whose target is known, with ``remaining``: min(steps that remain, horizon)."""
    left = frame["generalisation_step"].fillna(np.inf) - frame["step"]
    there = (left > 0) & (frame["step"] + horizon <= frame["last"])
    return frame[there].assign(remaining=left[there].clip(upper=horizon)).reset_index(drop=True)


# --------------------------------------------------------------------------- errors


def folds(frame: pd.DataFrame, scheme: str) -> Folds:
    """Rows to train on and to test on: no seed on both sides; with ``settings``, no setting."""
    seed, setting = frame["seed"].to_numpy(), frame["setting"].to_numpy()
    places = np.arange(len(frame))
    for train, test in GroupKFold(min(OUTER, len(set(seed)))).split(places, groups=seed):
        if scheme == "seeds":
            yield train, test
            continue
        for one in dict.fromkeys(setting):
            yield train[setting[train] != one], test[setting[test] == one]


def model(groups: Sequence[Any], columns: int) -> GridSearchCV:
    """What is fitted: the better of two kinds of model on inner folds over the groups."""
    splines = make_pipeline(
        QuantileTransformer(n_quantiles=min(20, len(groups) // 4)),  # fewer than an inner fold has
        SplineTransformer(4, extrapolation="constant"),
        Ridge(),
    )
    trees = ExtraTreesRegressor(TREES, random_state=0, max_features=max(1, columns // 2))
    grid = [
        {"model": [splines], "model__ridge__alpha": [0.3, 10.0]},
        {"model": [trees], "model__min_samples_leaf": [5, 20]},
    ]
    inner = GroupKFold(min(INNER, len(set(groups))))
    either = Pipeline([("model", splines)])
    return GridSearchCV(either, grid, scoring="neg_mean_absolute_error", cv=inner)


def errors(frame: pd.DataFrame, names: Sequence[str], scheme: str, horizon: int) -> Floats:
    """Absolute error of every row, predicted from these columns where it was left out."""
    target, found = frame["remaining"].to_numpy(float), np.full(len(frame), np.nan)
    for train, test in folds(frame, scheme):
        if not names:
            predicted: Any = np.median(target[train])
        else:
            values = frame[list(names)].to_numpy(float)
            by = frame["setting" if scheme == "settings" else "seed"].to_numpy()[train]
            if len(set(by)) == 1:
                by = frame["seed"].to_numpy()[train]
            fitted = model(by, len(names)).fit(values[train], target[train], groups=by)
            predicted = fitted.predict(values[test]).clip(0, horizon)
        found[test] = np.abs(predicted - target[test])
    return found


def sets(quantities: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """(quantity, alone or with_step) → columns that are predicted from."""
    unseeing = [name for name in quantities if name not in READ_TEST_PAIRS]
    groups = {name: [name] for name in quantities} | {UNSEEING: unseeing, ALL: list(quantities)}
    alone = {(name, "alone"): columns for name, columns in groups.items()}
    joined = {(name, "with_step"): [STEP, *columns] for name, columns in groups.items()}
    return {(CONSTANT, "alone"): [], (STEP, "alone"): [STEP]} | alone | joined


def measured(
    frame: pd.DataFrame, quantities: Sequence[str], schemes: Iterable[str], horizon: int
) -> pd.DataFrame:
    """A row a checkpoint; columns (scheme, quantity, alone or with_step) of absolute errors."""
    found = {
        (scheme, *name): errors(frame, columns, scheme, horizon)
        for scheme in schemes
        for name, columns in sets(quantities).items()
    }
    return pd.DataFrame(found)


# --------------------------------------------------------------------------- verdicts


def compare(
    frame: pd.DataFrame, found: pd.DataFrame, quantities: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """A row a scheme and quantity, columns of `HEADINGS`; see the module's docstring.

    ``best`` is the share of resamples of the seeds, in percent, in which a quantity with the step
    has the least error of all single ones.
    """
    confidence = 1 - LEVEL / (len(quantities) + 2)
    rows = []
    for scheme in dict.fromkeys(found.columns.get_level_values(0)):
        by_seed = found[scheme].groupby(frame["seed"].to_numpy()).mean()
        base = by_seed[STEP, "alone"]
        singles = by_seed[[(name, "with_step") for name in quantities]].to_numpy()
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, len(singles), (2000, len(singles)))
        winners = singles[drawn].mean(axis=1).argmin(axis=1)
        best = dict(zip(quantities, np.bincount(winners, minlength=len(quantities)), strict=True))
        for name in (CONSTANT, STEP):
            row = {"scheme": scheme, "quantity": name, "alone": by_seed[name, "alone"].mean()}
            rows.append(row)
        for name in (*quantities, UNSEEING, ALL):
            gain = base - by_seed[name, "with_step"]
            low, high = statistics.bootstrap_interval(gain, confidence=confidence, seed=seed)
            rows.append(
                {
                    "scheme": scheme,
                    "quantity": name,
                    "alone": by_seed[name, "alone"].mean(),
                    "with_step": by_seed[name, "with_step"].mean(),
                    "gain": gain.mean(),
                    "low": low,
                    "high": high,
                    "best": 100 * best[name] / len(drawn) if name in best else np.nan,
                    "verdict": BETTER if low > 0 else WORSE if high < 0 else NEITHER,
                }
            )
    return pd.DataFrame(rows, columns=list(HEADINGS)).fillna({"verdict": ""})


def conclusion(table: pd.DataFrame, scheme: str) -> str:
    """What a scheme's rows say, in words."""
    own = table[(table["scheme"] == scheme) & table["with_step"].notna()]
    singles = own[~own["quantity"].isin((UNSEEING, ALL))].sort_values("with_step")
    better = singles[singles["verdict"] == BETTER]
    if better.empty:
        return f"With {SCHEMES[scheme]}: no single quantity beats the step itself."
    names = ", ".join(
        f"{row.quantity} (by {row.gain:.0f} steps, {row.low:.0f} to {row.high:.0f})"
        for row in better.itertuples()
    )
    first = singles.iloc[0]
    return (
        f"With {SCHEMES[scheme]}: {len(better)} of {len(singles)} quantities beat the step itself, "
        f"best first: {names}. The least error is {first['quantity']}'s, in {first['best']:.0f} % "
        "of resamples of the seeds."
    )


# --------------------------------------------------------------------------- what is shown


def draw(table: pd.DataFrame, frame: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Errors of each quantity, alone and with the step, and of some of them against step."""
    schemes = list(dict.fromkeys(table["scheme"]))
    first = table[table["scheme"] == schemes[0]].dropna(subset=["with_step"])
    order = list(first.sort_values("with_step", ascending=False)["quantity"])
    with panels.style():
        figure = Figure(figsize=(figures.PAGE, 5.4))
        grid = figure.add_gridspec(2, len(schemes), height_ratios=(2, 1.2))
        axes = [figure.add_subplot(grid[0, i]) for i in range(len(schemes))]
        for own, scheme in zip(axes, schemes, strict=True):
            _draw_errors(own, table[table["scheme"] == scheme].set_index("quantity"), order)
            own.set_title(SCHEMES[scheme])
            if own is not axes[0]:
                own.set_yticklabels([])
        axes[0].legend(loc="lower left", frameon=True, framealpha=1, edgecolor="none")
        below = figure.add_subplot(grid[1, :])
        best = [name for name in order if name not in (UNSEEING, ALL)][-1]
        shown = dict.fromkeys([STEP, "H1 max", best, ALL])
        for place, name in enumerate(name for name in shown if name in (STEP, *order)):
            key = (schemes[0], name, "alone" if name == STEP else "with_step")
            curve = found[key].groupby(frame["step"].to_numpy()).mean()
            dash = panels.DASHES[place % len(panels.DASHES)]
            text = name if name == STEP else f"{name}, with the step"
            below.plot(curve.index, curve, color=panels.PALETTE[place], ls=dash, label=text)
        below.set(xlabel="step of the prediction", ylabel="mean error, steps")
        below.set_ylim(bottom=0)
        panels.step_axis(below)
        below.legend(title=SCHEMES[schemes[0]], title_fontsize=7)
    return figure


def _draw_errors(axes: Any, table: pd.DataFrame, order: Sequence[str]) -> None:
    base, places = table["alone"][STEP], np.arange(len(order))
    own = table.loc[list(order)]
    axes.axvline(table["alone"][CONSTANT], color="0.6", ls=":", lw=0.8, label="constant")
    axes.axvline(base, color="0.3", ls="--", lw=0.8, label="the step itself")
    axes.plot(own["alone"], places, "o", mfc="none", color=panels.H1, ms=4, label="alone")
    ends = np.array([base - own["high"], base - own["low"]])
    axes.hlines(places, *ends, color=panels.H0, lw=1)
    axes.plot(own["with_step"], places, "o", color=panels.H0, ms=4, label="with the step")
    axes.set_yticks(places, order)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean error, steps")


def in_words(frame: pd.DataFrame, horizon: int) -> str:
    """What was predicted from what."""
    runs = frame.drop_duplicates("run_id")
    never = int(runs["generalisation_step"].isna().sum())
    capped = (frame["remaining"] >= horizon).mean()
    return (
        f"{len(runs)} runs, {runs['seed'].nunique()} seeds, {runs['setting'].nunique()} settings; "
        f"{never} of the runs never generalised. {len(frame):,} checkpoints, from step "
        f"{frame['step'].min():,} to {frame['step'].max():,}; remaining steps count up to "
        f"{horizon:,}, which {100 * capped:.0f} % of the checkpoints reach."
    )


def output(frame: pd.DataFrame, horizon: int) -> Output:
    """Table, page and figure from rows as `asked` gives them."""
    schemes = list(SCHEMES) if frame["setting"].nunique() > 1 else ["seeds"]
    found = measured(frame, QUANTITIES, schemes, horizon)
    table = compare(frame, found, QUANTITIES)
    texts = [in_words(frame, horizon), *(conclusion(table, scheme) for scheme in schemes)]
    body = [html_page.paragraph(text) for text in (*texts, " ".join(_method()))]
    body.append(html_page.table(table, HEADINGS))
    print("\n\n".join([*texts, html_page.markdown(table.rename(columns=HEADINGS))]))
    page = html_page.document("How long until it generalises: a head-to-head", body)
    return Output(numbers=table, figure=draw(table, frame, found), page=page)


def _method() -> Iterable[str]:
    text = (__doc__ or "").partition("What is predicted")
    return itertools.chain(text[1:2], text[2].split())


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table, its page and its figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdirs", help="folders with runs (comma list)")
    source.add_argument("--checkpoints", help="the table of checkpoints that an earlier call wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is made")
    parser.add_argument("--horizon", type=int, default=1500, help="steps; default: %(default)s")
    given = parser.parse_args(argv)
    if given.checkpoints:
        frame = pd.read_csv(given.checkpoints)
    else:
        pool = Pool([Folder(pathlib.Path(name)) for name in given.workdirs.split(",")])
        frame = of_embeddings(pool, asked(known(pool), given.horizon))
        given.out.mkdir(parents=True, exist_ok=True)
        frame.to_csv(given.out / "checkpoints.csv", index=False, float_format="%.6g")
    artefact.save("head_to_head", given.out, output(frame, given.horizon))


if __name__ == "__main__":
    main()
