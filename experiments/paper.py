"""All fourteen figures and both tables of the study, and one page that compares.

Claim:    everything in experiments/reference/.
Command:  python -m experiments.paper --workdir=work/paper [--scale=small] [--mnist_dir=FOLDER]
Device:   --scale=small: two CPU cores, under 45 minutes. The paper's scale: 165 runs of 60,000 to
          100,000 steps; an accelerator, or days on a CPU.
Expected: 16 artefacts and comparison.html with its CSV below the work directory (-small in their
          names at small scale). Stopped, the same command goes on; complete, it does nothing.
"""

import importlib
import json
import pathlib
from collections.abc import Sequence

import pandas as pd

import grokjax
from experiments import artefact, bold_cells, comparison, contrasts, html_page, sweeps
from experiments.artefact import Artefact, Context
from experiments.sweeps import TRAININGS
from grokjax.store import results

NAMES = (*(f"figure{i}" for i in range(1, 15)), "table1", "table2")

_HEADINGS = {
    "source": "source",
    "what": "what",
    "paper_low": "paper from",
    "paper_high": "to",
    "ours_mean": "ours",
    "ours_sd": "± SD",
    "n": "n",
    "verdict": "verdict",
    "difference": "ours − paper's middle",
    "outside": "outside the interval by",
    "note": "note",
}


def artefacts() -> list[Artefact]:
    """All of them, figures first."""
    return [importlib.import_module(f"experiments.{name}").ARTEFACT for name in NAMES]


def write_comparison(root: pathlib.Path, scale: str) -> bool:
    """Writes the page and its CSV; returns whether there was anything to do."""
    name = "comparison" if scale == "paper" else "comparison-small"
    digest = artefact.inputs([training.workdir(root, scale) for training in TRAININGS.values()])
    stamp = artefact.stamp_path(root, name)
    if artefact.fresh(stamp, digest):
        print(f"{name}: nothing to do", flush=True)
        return False
    frame = comparison.compare(root, scale)
    results.write_text(root / f"{name}.csv", frame.to_csv(index=False))
    results.write_text(root / f"{name}.html", page(root, scale, frame))
    artefact.write_stamp(stamp, digest, [f"{name}.csv", f"{name}.html"])
    print(f"{name}: {root / name}.html, {root / name}.csv", flush=True)
    return True


def page(root: pathlib.Path, scale: str, frame: pd.DataFrame) -> str:
    """The comparison page."""
    small = scale == "small"
    title = "Topological Signatures of Grokking: the study's numbers beside ours"
    body = []
    if small:
        title += " – SMALL SCALE"
        body.append(
            html_page.paragraph(
                "Small scale: primes 29, 31 and 37 instead of 113, 149 and 197, narrower networks, "
                "ten times the weight decay, a few thousand steps, two or three seeds. Numbers are "
                "not comparable in size with the study's; only directions are compared, and "
                "no row says that the study's number was found.",
                "note",
            )
        )
    rule = (comparison.__doc__ or "").split("\n\n", 1)[1].replace("*", "").replace("\n", " ")
    body += [
        html_page.paragraph(rule),
        "<h2>Verdicts</h2>",
        html_page.table(
            comparison.counts(frame), {"source": "source", "verdict": "verdict", "rows": "rows"}
        ),
        "<h2>Every number</h2>",
        html_page.table(frame, _HEADINGS, _kind),
        "<h2>Sweeps</h2>",
        html_page.table(provenance(root, scale), _PROVENANCE),
        *changes(root, scale),
    ]
    for table in ("table1", "table2"):
        path = root / f"{table}{'-small' if small else ''}.csv"
        if path.exists():
            body += bold_cells.sections(pd.read_csv(path), table, scale)
    body.append("<h2>Figures</h2>")
    for one in artefacts():
        path = root / f"{artefact.stem(one, scale)}.svg"
        if path.exists():
            caption = one.caption + (" (small scale)" if small else "")
            body.append(html_page.figure(path, f"{one.name}: {caption}"))
    return html_page.document(title, body)


_CLASSES = {
    comparison.AGREE: "agree",
    comparison.SAME: "agree",
    comparison.DIFFER: "differ",
    comparison.OTHER: "differ",
}


def _kind(row: object, column: str) -> str:
    assert isinstance(row, dict)
    return _CLASSES.get(row["verdict"], "none") if column == "verdict" else ""


_PROVENANCE = {
    "sweep": "sweep",
    "runs": "runs",
    "steps": "steps",
    "commit": "commit",
    "devices": "devices",
    "versions": "versions",
}


def provenance(root: pathlib.Path, scale: str) -> pd.DataFrame:
    """With what each sweep was run: a row a sweep that was begun."""
    rows = []
    for name, training in TRAININGS.items():
        path = training.workdir(root, scale) / "sweep.json"
        if not path.exists():
            rows.append(dict.fromkeys(_PROVENANCE, "") | {"sweep": name, "runs": "not run"})
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        start = record["starts"][-1]
        rows.append(
            {
                "sweep": name,
                "runs": str(sum(len(batch) for batch in record["batches"])),
                "steps": str(record["config"]["train"]["steps"]),
                "commit": str(start["commit"]),
                "devices": f"{', '.join(start['devices'])}, {start['cpu_count']} cores",
                "versions": f"Python {start['python']}, jax {start['packages']['jax']}",
            }
        )
    return pd.DataFrame(rows)


def changes(root: pathlib.Path, scale: str) -> list[str]:
    """Sections on before and after, and on when runs generalise, for every complete sweep."""
    before_after, when = [], []
    for name, training in TRAININGS.items():
        if sweeps.missing(training.workdir(root, scale)):
            continue
        context = Context(
            sweep=grokjax.load(training.workdir(root, scale)), training=training, scale=scale
        )
        heading = f"<h3>{name}</h3>"
        frame = contrasts.contrasts(context)
        before_after += [heading, html_page.table(frame, contrasts.CONTRAST_HEADINGS)]
        frame = contrasts.generalisation_steps(context)
        when += [heading, html_page.table(frame, contrasts.steps_headings())]
    return [
        "<h2>Before and after generalisation</h2>",
        html_page.paragraph(contrasts.CONTRAST_TEXT),
        *before_after,
        "<h2>Steps of generalisation by threshold</h2>",
        html_page.paragraph(contrasts.STEPS_TEXT),
        *when,
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, draws and compares what is not there yet."""
    arguments = artefact.parser(__doc__).parse_args(argv)
    root, scale = arguments.workdir, arguments.scale
    busy = False
    for training in TRAININGS.values():
        extra = artefact.extra_flags(training.name, arguments.mnist_dir)
        busy |= sweeps.ensure(training, root, scale, extra)
        for one in artefacts():
            if one.training == training.name:
                busy |= artefact.make(one, root, scale)
    busy |= write_comparison(root, scale)
    if not busy:
        print("everything is there and up to date: nothing was done", flush=True)


if __name__ == "__main__":
    main()
