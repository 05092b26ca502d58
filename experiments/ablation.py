"""Waves and loops taken out of embeddings, beside random planes of the same power.

Question: does a network that generalised lose more when its strongest wave goes out of the
          embedding than when a random plane of the same power does?
Command:  python -m grokjax.sweep --flagfile=experiments/ablation.flags
          python -m grokjax.analyze --workdir=work/ablation --diagnostics=ablation
          python -m experiments.ablation --workdirs=work/ablation,W… --out=FOLDER
Device:   the last reads tables only; seconds.
Expected: FOLDER/ablation.csv, .html and a figure: a row a setting, subspace and intervention;
          experiments/results/ablation/README.md.

Runs count that generalised and answer at least nine of ten test pairs at the last checkpoint. Each
gives one value, so seeds are the sample: the difference between what the subspace costs and what
random subspaces of its dimension and power cost on average (see `grokjax.diagnostics.ablation`).
Medians have exact intervals, p-values are of exact two-sided sign tests; nothing is corrected for
the number of rows.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments import artefact, evidence, html_page
from experiments.artefact import Output
from experiments.evidence import Pool
from grokjax import statistics
from grokjax.report import figures, panels
from grokjax.settings import labels

HEADINGS = {
    "setting": "setting",
    "subspace": "subspace",
    "intervention": "is",
    "n": "seeds",
    "power": "power taken out",
    "overlap": "overlap of random",
    "accuracy": "test accuracy then",
    "random_accuracy": "with random ones",
    "accuracy_lost": "accuracy lost a unit of power",
    "random_accuracy_lost": "by random ones",
    "accuracy_difference": "more lost than by random, median",
    "accuracy_low": "95 % from",
    "accuracy_high": "to",
    "accuracy_more": "seeds that lose more",
    "p_accuracy": "p",
    "loss_gained": "loss gained a unit of power",
    "random_loss_gained": "by random ones ",
    "loss_difference": "more gained than by random, median",
    "loss_low": "95 % from ",
    "loss_high": "to ",
    "loss_more": "seeds that gain more",
    "p_loss": "p ",
}
SHOWN = ("wave1", "loop")


def last_rows(pool: Pool) -> pd.DataFrame:
    """Rows of test pairs at the last checkpoint of the runs that count, with setting and seed.

    A task and network with several settings has more rows: means over these settings, seed by seed.
    """
    runs = pool.table("runs").reset_index(drop=True)
    settings = labels.group(runs)
    runs = runs[runs["generalisation_step"].notna() & (runs["status"] == "done")]
    rows = pool.table("ablation")
    rows = rows[rows["run_id"].isin(runs["run_id"]) & (rows["pairs"] == "test")]
    last = rows.groupby("run_id")["step"].transform("max")
    reached = rows["accuracy_before"] >= statistics.GENERALISED_ACCURACY
    rows = rows[(rows["step"] == last) & reached].reset_index(drop=True)
    names = {run_id: (one.panel, one.name) for one in settings for run_id in one.run_ids}
    rows = rows.assign(
        seed=rows["run_id"].map(runs.set_index("run_id")["seed"]),
        panel=[names[run_id][0] for run_id in rows["run_id"]],
        setting=[names[run_id][1] for run_id in rows["run_id"]],
    )
    several = rows.groupby("panel")["setting"].transform("nunique") > 1
    by = ["panel", "seed", "subspace", "intervention"]
    means = rows[several].groupby(by, sort=False, as_index=False).mean(numeric_only=True)
    means["setting"] = means["panel"] + ", mean over settings"
    return pd.concat([rows, means], ignore_index=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a setting, subspace and intervention; columns are those of `HEADINGS`.

    Differences are the subspace's less random ones': positive where it costs more.
    """
    found = []
    for (setting, subspace, intervention), own in rows.groupby(
        ["setting", "subspace", "intervention"], sort=False
    ):
        lost, gained = (
            ("accuracy_lost", "random_accuracy_lost"),
            ("loss_gained", "random_loss_gained"),
        )
        row = {"setting": setting, "subspace": subspace, "intervention": intervention}
        row |= {"n": len(own)}
        for name in ("power", "overlap", "accuracy", "random_accuracy", *lost, *gained):
            row[name] = own[name].mean()
        accuracy = statistics.lead_test(own["accuracy"], own["random_accuracy"])
        loss = statistics.lead_test(own["random_loss"], own["loss"])
        for name, test in (("accuracy", accuracy), ("loss", loss)):
            row[f"{name}_difference"] = test.median
            row[f"{name}_low"], row[f"{name}_high"] = test.interval
            row[f"{name}_more"] = test.n_x_first
            row[f"p_{name}"] = test.p_value
        found.append(row)
    return pd.DataFrame(found, columns=list(HEADINGS))


def conclusion(frame: pd.DataFrame, subspace: str = "wave1") -> list[str]:
    """What removing a subspace costs, setting by setting, in words."""
    texts = []
    asked = (frame["subspace"] == subspace) & (frame["intervention"] == "removed")
    for row in frame[asked].to_dict("records"):
        low, high = row["accuracy_low"], row["accuracy_high"]
        verdict = "more" if low > 0 else "less" if high < 0 else "neither surely more nor less"
        texts.append(
            f"{row['setting']}, {row['n']} seeds: without {subspace} accuracy is "
            f"{row['accuracy']:.2f}, without random ones of its power "
            f"{row['random_accuracy']:.2f}. It costs {verdict} than they do: median difference "
            f"{row['accuracy_difference']:+.3f} ({_span(low, high)}), more in "
            f"{row['accuracy_more']} of {row['n']} seeds; of the loss "
            f"{row['loss_difference']:+.2f} ({_span(row['loss_low'], row['loss_high'])}), more in "
            f"{row['loss_more']}."
        )
    return texts


def _span(low: float, high: float) -> str:
    return "no interval below six seeds" if pd.isna(low) else f"{low:+.3f} to {high:+.3f}"


def draw(rows: pd.DataFrame) -> Figure:
    """Each run's accuracy without a subspace beside that without random ones of its power."""
    rows = rows[rows["run_id"].notna() & (rows["intervention"] == "removed")]
    names = {"wave1": "strongest wave", "loop": "plane of the longest loop"}
    titles = list(dict.fromkeys(rows["panel"]))
    with panels.style():
        figure, (row,), _ = panels.square_panels(len(titles), 1, figures.PAGE)
        for axes, title in zip(row, titles, strict=True):
            axes.plot([0, 1], [0, 1], color="0.6", lw=0.6, zorder=0)
            for place, subspace in enumerate(SHOWN):
                own = rows[(rows["panel"] == title) & (rows["subspace"] == subspace)]
                axes.errorbar(
                    own["random_accuracy"],
                    own["accuracy"],
                    xerr=own["random_accuracy_sd"],
                    fmt="os"[place],
                    mfc=panels.PALETTE[place] if place == 0 else "none",
                    color=panels.PALETTE[place],
                    ms=3,
                    lw=0.4,
                    label=names[subspace],
                )
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.set_title(panels.wrapped(title, figures.PAGE / len(titles)))
            axes.set_xlabel("without random planes of its power")
        row[0].set_ylabel("test accuracy without it")
        panels.legend_below(figure, row[0].get_legend_handles_labels()[0])
    return figure


def output(pool: Pool) -> Output:
    """Table, page and figure."""
    rows = last_rows(pool)
    frame = table(rows)
    texts = [text for subspace in SHOWN for text in conclusion(frame, subspace)]
    method = " ".join((__doc__ or "").partition("Runs count")[2].split())
    body = [html_page.paragraph(text) for text in (*texts, f"Runs count {method}")]
    body.append(html_page.table(frame, HEADINGS))
    print("\n".join(texts))
    page = html_page.document("Waves and loops taken out of embeddings", body)
    return Output(numbers=frame, figure=draw(rows), page=page)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table, its page and its figure."""
    given = evidence.parser(__doc__).parse_args(argv)
    artefact.save("ablation", given.out, output(evidence.pool(given.workdirs)))


if __name__ == "__main__":
    main()
