"""What H1 of trained embeddings would be by chance: the evidence's runs beside surrogates.

Question: is the H1 signature of a network that generalised a matter of its group, of its spectrum,
or of its singular values alone?
Command: python -m experiments.surrogate_table --embeddings p113/embeddings.npz p197/embeddings.npz
mlp197/embeddings.npz --more p113:15000 p197:30000; two CPU cores, about 5 minutes. Files hold raw
embeddings (p, d) of seeds at steps, s<seed>_<step>; work directories of sweeps, such as work/p113,
do as well. The first and the last step of each seed are measured, and the steps that --more names.
The table grows cloud by cloud; clouds that it has are not measured again.
Found, with what it means: experiments/results/surrogates/README.md, which this command writes.

Surrogates are drawn of the raw embedding; then embedding and surrogates are centred and their rows
normed alike, so that nulls stay exact. ``EARLIER`` are the figures of another implementation, which
this one is held against: each should lie within the Monte-Carlo error of both.
"""

import argparse
import io
import pathlib
import re
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

import grokjax
from experiments import html_page
from experiments.benchmarks.environment import environment
from grokjax.clouds import normalize
from grokjax.diagnostics import persistence, surrogates

RESULTS = pathlib.Path("experiments/results/surrogates")
# As they were told, decimals included; fp: frequency_power, sv: covariance; - is not told, but for
# sv in MLPs, whose means are told as 0.25 to 0.26.
EARLIER = """
runs   seed h1_max fp_mean fp_sd sv_mean sv_sd h1_total fp_total sv_total circulance
p113   46   0.287  0.251   0.013 0.216   0.014 29.3     25.0     11.8     0.98
p113   47   0.245  0.231   0.008 0.200   0.015 22.4     20.6     11.1     0.93
p113   48   0.262  0.243   0.010 0.203   0.015 36.3     27.9     10.4     0.98
p113   49   0.163  0.168   0.012 0.202   0.016 24.9     18.1     10.9     0.97
p113   50   0.260  0.251   0.016 0.200   0.014 20.2     17.7     11.2     0.97
p197   46   0.207  0.196   -     0.211   -     -        -        -        -
p197   47   0.189  0.173   -     0.206   -     -        -        -        -
p197   48   0.367  0.355   -     0.222   -     -        -        -        -
p197   49   0.213  0.201   -     0.207   -     -        -        -        -
p197   50   0.254  0.203   -     0.217   -     -        -        -        -
mlp197 46   0.180  0.157   -     -       -     -        -        -        1.00
mlp197 47   0.314  0.189   -     -       -     -        -        -        1.00
mlp197 48   0.262  0.271   -     -       -     -        -        -        1.00
mlp197 49   0.186  0.152   -     -       -     -        -        -        1.00
mlp197 50   0.289  0.198   -     -       -     -        -        -        1.00
"""
# Column of EARLIER → null, statistic, and which of its numbers.
MEANT = {
    "h1_max": ("covariance", "h1_max", "value"),
    "fp_mean": ("frequency_power", "h1_max", "mean"),
    "fp_sd": ("frequency_power", "h1_max", "sd"),
    "sv_mean": ("covariance", "h1_max", "mean"),
    "sv_sd": ("covariance", "h1_max", "sd"),
    "h1_total": ("covariance", "h1_total", "value"),
    "fp_total": ("frequency_power", "h1_total", "mean"),
    "sv_total": ("covariance", "h1_total", "mean"),
    "circulance": ("covariance", "circulance", "value"),
}
KEYS = ["runs", "seed", "null", "statistic"]
SHOWN = {"h1_max": "H1 max", "h1_total": "H1 total", "h1_ratio": "Longest over second H1 bar",
         "circulance": "Circulance"}  # fmt: skip
DRAWN = ("frequency_power", "covariance")  # whose spread the page of answers draws
COLUMNS = ["runs", "seed", "step", "null", "statistic", "value", "mean", "sd", "z", "percentile",
           "n", "p5", "p95"]  # fmt: skip
# Of the fifteen runs, from 99 surrogates.
FOUND = """
## What it says

- Singular values alone, without any order of the residues, give an H1 max of 0.20 to 0.26: the
  level that is told as the signature of generalisation. Of fifteen runs eight exceed 95 % of them.
- The power at each frequency gives most of the rest. H1 max is 1.13 times that of such clouds
  (geometric mean; transformers 1.07, MLPs 1.27), above 95 % of them in seven of fifteen runs, where
  chance gives one: two at p = 113, one at p = 197, four MLPs.
- Which runs exceed depends on the step: at p = 197 four of five at step 30,000, and one of five
  15,000 later; at p = 113 one at 15,000 and two at 20,000.
- H1 *total* of all ten transformers is beyond both nulls at the last step; of MLPs it is beyond
  both in three. At p = 197 and step 30,000 that of seed 50 is below all clouds of the same singular
  values. It is not beyond clouds without any shape everywhere: at p = 197 two of five are within
  those of `isotropic` at the last step, where H1 total is higher than of clouds with the singular
  values.
- The longest bar beside the second is above 95 % of clouds of the same power in two of fifteen
  runs at the last step (both MLPs), of the same singular values in six.
- `circulant` is no random null. H1 max of fourteen embeddings, H1 total of twelve, is below that of
  the circulant part of their own Gram matrix: the rest of it fills loops.
- Circulance of noise is 1/p, but of random directions with the same power at each frequency already
  0.90 to 0.94. The 0.92 to 1.00 here are above that in fourteen of fifteen, and by little.
- Of the figures told before one lies apart, an SD (p = 113, seed 50, `frequency_power`: 0.016, here
  0.0113). 1,500 surrogates give 0.0136, and fifteen lots of 99 of them 0.0120 to 0.0161.
"""


Embeddings = dict[tuple[int, int], np.ndarray]  # (seed, step) → (p, d), as they are


def embeddings(path: pathlib.Path, more: Sequence[int] = ()) -> Embeddings:
    """The first and last step of each seed of a file or of a work directory, and further ones."""
    found: Embeddings = {}
    if path.is_file():
        arrays = np.load(path)
        named = {key: re.findall(r"\d+", key) for key in arrays.files}
        every = {(int(seed), int(step)): key for key, (seed, step) in named.items()}
        for seed in dict.fromkeys(seed for seed, _ in every):
            for step in _wanted([at for of, at in every if of == seed], more):
                found[seed, step] = arrays[every[seed, step]]
        return found
    sweep = grokjax.load(path)
    for run in sweep.runs.itertuples():
        for step in _wanted(sweep.steps(run.run_id), more):
            if (run.seed, step) in found:
                raise ValueError(f"{path} has several runs of seed {run.seed}")
            found[run.seed, step] = sweep.view(run.run_id, step).embedding
    return found


def _wanted(steps: Sequence[int], more: Sequence[int]) -> list[int]:
    return sorted({min(steps), max(steps), *set(steps) & set(more)})


def measure(raw: np.ndarray, key: tuple[str, int, int], n: int, threads: int) -> pd.DataFrame:
    """The embedding of runs, seed and step beside n surrogates of each null."""
    seed = [*key[0].encode(), *key[1:]]
    rows = surrogates.compare(raw, n=n, seed=seed, normalise=normalize, n_threads=threads)
    frame = pd.DataFrame(rows).set_index(["null", "statistic"])
    for null in DRAWN if key[-1] else ():  # of untrained embeddings it says nothing
        more = spreads(raw, null, n, [*seed, *null.encode()], threads)
        frame = more.combine_first(frame)
    found = pd.DataFrame(dict(zip(("runs", "seed", "step"), key, strict=True)), index=frame.index)
    return found.join(frame).reset_index().reindex(columns=COLUMNS).astype({"n": "int64"})


def spreads(raw: np.ndarray, null: str, n: int, seed: Sequence[int], threads: int) -> pd.DataFrame:
    """What `surrogates.compare` does not say of the surrogates that it drew.

    Columns ``p5`` and ``p95`` of H1 max, H1 total and the longest over the second bar, and all of
    the columns of the last; by null and statistic.
    """
    clouds = [normalize(cloud) for cloud in (raw, *surrogates.draw(raw, null, n, seed))]
    found = [persistence.summarize(one) for one in persistence.many(clouds, n_threads=threads)]
    values = pd.DataFrame(
        [(bar.h1_max, bar.h1_total, bar.h1_max / bar.h1_second if bar.h1_second else np.nan)
         for bar in found], columns=["h1_max", "h1_total", "h1_ratio"],
    )  # fmt: skip
    own, drawn = values.iloc[0], values.iloc[1:]
    frame = pd.DataFrame({"p5": drawn.quantile(0.05), "p95": drawn.quantile(0.95)})
    mean, sd = drawn["h1_ratio"].mean(), drawn["h1_ratio"].std()
    below = 100 * (drawn["h1_ratio"] < own["h1_ratio"]).mean()
    row = {"value": own["h1_ratio"], "mean": mean, "sd": sd, "percentile": below, "n": n}
    frame.loc["h1_ratio", list(row)] = list(row.values())
    frame.loc["h1_ratio", "z"] = (own["h1_ratio"] - mean) / sd
    return pd.concat({null: frame}, names=["null", "statistic"])


def measure_all(options: argparse.Namespace) -> pd.DataFrame:
    """The table, to which each cloud is added and saved that it does not have."""
    file = options.output / "surrogates.parquet"
    rows = pd.read_parquet(file) if file.exists() else pd.DataFrame(columns=["runs"])
    more = [one.split(":") for one in options.more]
    for path in options.embeddings:
        name = path.parent.name if path.stem == "embeddings" else path.stem
        steps = [int(step) for of, step in more if of == name]
        for (seed, step), raw in embeddings(path, steps).items():
            if (
                len(rows)
                and ((rows.runs == name) & (rows.seed == seed) & (rows.step == step)).any()
            ):
                continue
            one = measure(raw, (name, seed, step), options.n, options.threads)
            rows = pd.concat([rows, one], ignore_index=True) if len(rows) else one
            rows.to_parquet(file, index=False)
    return rows


def last_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run's last step."""
    return rows[rows["step"] == rows.groupby(["runs", "seed"])["step"].transform("max")]


def further_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of steps between the first and the last."""
    ends = rows.groupby(["runs", "seed"])["step"].transform
    return rows[(rows["step"] > ends("min")) & (rows["step"] < ends("max"))]


def held_against(rows: pd.DataFrame) -> pd.DataFrame:
    """Each earlier figure beside ours, with how many standard errors they are apart.

    A mean of n surrogates has the standard error SD / √n, an SD about SD / √(2 (n − 1)); both have
    it, so the difference has √2 of that. Up to half a unit of the last digit told is rounding.
    """
    told = pd.read_csv(io.StringIO(EARLIER), sep=r"\s+", dtype=str, na_values="-")
    told = told.melt(["runs", "seed"], var_name="figure", value_name="earlier").dropna()
    ours = last_steps(rows).astype({"seed": str}).set_index(KEYS)
    found = []
    for one in told.itertuples():
        null, statistic, number = MEANT[one.figure]
        if (key := (one.runs, one.seed, null, statistic)) not in ours.index:
            continue
        row = ours.loc[key]
        half = 0.5 * 10.0 ** -len(one.earlier.partition(".")[2])
        gap = max(0.0, abs(row[number] - float(one.earlier)) - half)
        error = {"value": 0.0, "mean": row["sd"] * np.sqrt(2 / row["n"])}
        error["sd"] = row["sd"] / np.sqrt(row["n"] - 1)
        apart = gap / error[number] if error[number] else (0.0 if gap < 1e-9 else np.inf)
        found.append({"runs": one.runs, "seed": int(one.seed), "figure": one.figure}
                     | {"earlier": one.earlier, "here": row[number], "apart": apart})  # fmt: skip
    return pd.DataFrame(found)


def text(row: pd.Series) -> str:
    """Mean and SD of surrogates, and the percentile of the value among them."""
    digits = 1 if row["statistic"].endswith("total") else 3
    if row["n"] < 2:
        return f"{row['mean']:.{digits}f}"
    return f"{row['mean']:.{digits}f} ± {row['sd']:.{digits}f} ({row['percentile']:.0f})"


def wide(rows: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """A row a run: the statistic before and after, and beside each null after."""
    own = rows[rows["statistic"] == statistic]
    last = last_steps(own)
    order = pd.MultiIndex.from_frame(last[["runs", "seed"]].drop_duplicates())
    table = last.assign(text=last.apply(text, axis=1))
    table = table.pivot(index=["runs", "seed"], columns="null", values="text")
    table = table.loc[order, [null for null in surrogates.NULLS if null in table]]
    ends = own.groupby(["runs", "seed", "step"])["value"].first().groupby(["runs", "seed"])
    digits = 1 if statistic.endswith("total") else 3
    table.insert(0, "before", ends.first().map(f"{{:.{digits}f}}".format))
    table.insert(1, "after", ends.last().map(f"{{:.{digits}f}}".format))
    return table.reset_index()


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each group of runs, in how many a statistic is above 95 % of a null's surrogates."""
    random = rows[rows["n"] > 1]
    above = random.assign(above=random["percentile"] > 95)
    table = above.pivot_table(
        index=["statistic", "runs"], columns="null", values="above", aggfunc="sum", sort=False
    )
    return table.astype("Int64").reset_index()


def further(rows: pd.DataFrame) -> list[str]:
    """The same counts at steps between the first and the last, if there are any."""
    between = further_steps(rows)
    if between.empty:
        return []
    steps = between.groupby("runs")["step"].unique()
    words = [f"{runs} at {' and '.join(f'{at:,}' for at in own)}" for runs, own in steps.items()]
    return [f"At steps before the last ({', '.join(words)}):", html_page.markdown(counts(between))]


def page(rows: pd.DataFrame, options: argparse.Namespace, seconds: float) -> str:
    """The README of the results."""
    made = environment(["numpy", "scipy", "redzed-tda"])
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    files = " ".join("/".join(file.parts[-2:]) for file in options.embeddings)
    against = held_against(rows)
    apart = against["apart"] > 2.58
    errors = against.groupby("figure", sort=False)["apart"].agg(["size", "max"]).reset_index()
    errors.columns = ["figure", "figures", "furthest apart, in standard errors"]
    lines = [
        "# What H1 of trained embeddings would be by chance",
        f"```\npython -m experiments.surrogate_table --n {options.n} --embeddings {files}"
        + "".join(f" \\\n  --more {' '.join(options.more)}" if options.more else "")
        + "\n```",
        f"Commit {(made['commit'] or 'unknown')[:7]}, {made['time']}, {made['device']} shared with "
        f"other work, {options.threads} threads, {seconds:.0f} s for "
        f"clouds that were not there yet; all take three minutes of two cores; {versions}. "
        f"{options.n} surrogates of each null, drawn of the raw embedding; embedding and "
        "surrogates are then centred and their rows normed. Nulls and statistics are those of "
        "`grokjax.diagnostics.surrogates`. Beside "
        "each null: mean ± SD of its surrogates at the last step, and in brackets the percentile "
        "of the measured value among them. All statistics, before and after training: "
        "[surrogates.parquet](surrogates.parquet).",
        FOUND.strip(),
        "## In how many of five runs a statistic is above 95 % of the surrogates",
        "At the last step:",
        html_page.markdown(counts(last_steps(rows))),
        *further(rows),
    ]
    for statistic, name in SHOWN.items():
        lines += [f"## {name}", html_page.markdown(wide(rows, statistic))]
    lines += [
        "## Held against figures made before by other code",
        f"Of {len(against)} figures {apart.sum()} lie further apart than 2.58 standard errors of "
        f"the difference, beyond rounding; {0.01 * len(against):.1f} would if all are right. "
        "Standard errors are of the surrogates, an SD's as of a normal distribution's.",
        html_page.markdown(errors),
        html_page.markdown(against[apart]),
    ]
    return "\n\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints the page and writes it with the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--embeddings", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--more", nargs="*", default=[], help="further steps, as p197:30000")
    parser.add_argument("--n", type=int, default=99)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    begun = time.perf_counter()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = measure_all(options)
    seconds = time.perf_counter() - begun
    readme = page(rows, options, seconds)
    (options.output / "README.md").write_text(readme, encoding="utf-8")
    print(readme)


if __name__ == "__main__":
    main()
