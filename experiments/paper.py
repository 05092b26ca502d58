"""All fourteen figures and both tables of the study, and one page that compares.

Claim:    everything in experiments/reference/.
Command:  python -m experiments.paper --workdir=work/paper [--scale=small] [--mnist_dir=FOLDER]
Device:   --scale=small: two CPU cores, under 45 minutes. The paper's scale: 155 runs of 60,000 to
          100,000 steps; an accelerator, or days on a CPU.
Expected: 16 artefacts and comparison.html with its CSV below the work directory (-small in their
          names at small scale). Stopped, the same command goes on; complete, it does nothing.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from experiments import artefact, bold_cells, comparison, contrasts, discoveries, html_page, sweeps
from experiments.artefact import Context, Output
from experiments.registry import ARTEFACTS
from experiments.sweeps import TRAININGS


def compare(root: pathlib.Path, scale: str) -> Output:
    """The comparison and its page, of what is there."""
    contexts = comparison.contexts_of(root, scale)
    frame = comparison.compare(contexts, scale)
    small = scale == "small"
    body = []
    if small:
        body.append(
            html_page.paragraph(
                "Small scale: primes 29, 31 and 37 instead of 113, 149 and 197, narrower networks, "
                "ten times the weight decay, a few thousand steps, two or three seeds. Numbers are "
                "not comparable in size with the study's; only directions are compared, and "
                "no row says that the study's number was found.",
                "note",
            )
        )
    body += [
        *comparison.body(frame, contexts.values(), scale),
        "<h2>Sweeps</h2>",
        html_page.table(provenance(root, scale)),
        *changes(contexts),
    ]
    drawn, tables = [], {}
    for one in ARTEFACTS.values():
        stem = root / sweeps.at_scale(one.name, scale)
        numbers, figure = stem.with_suffix(".csv"), stem.with_suffix(".svg")
        if one.kind == "table" and numbers.exists():
            tables[one.name] = pd.read_csv(numbers)
            body += bold_cells.sections(tables[one.name], one.label, scale)
        elif figure.exists():
            caption = one.headline + (" (small scale)" if small else "")
            drawn.append(html_page.figure(figure, caption))
    body += discoveries.sections(discoveries.family(contexts, tables))
    page = html_page.document(comparison.title(scale), [*body, "<h2>Figures</h2>", *drawn])
    return Output(numbers=frame, page=page)


def provenance(root: pathlib.Path, scale: str) -> pd.DataFrame:
    """With what each sweep was run: a row a sweep that was begun."""
    rows = []
    for name, training in TRAININGS.items():
        path = training.workdir(root, scale) / "sweep.json"
        if not path.exists():
            rows.append({"sweep": name, "runs": "not run"})
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
    columns = ["sweep", "runs", "steps", "commit", "devices", "versions"]
    return pd.DataFrame(rows, columns=columns).fillna("")


def changes(contexts: Mapping[str, Context | None]) -> list[str]:
    """Sections on before and after, and on when runs generalise, for what is there of a sweep."""
    before_after, when = [], []
    for name, context in contexts.items():
        if context is None:
            continue
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
    for name in TRAININGS:
        busy |= artefact.ensure(name, arguments)
        for one in ARTEFACTS.values():
            if one.training == name:
                busy |= artefact.make(one, root, scale)
    found = [training.workdir(root, scale) for training in TRAININGS.values()]
    tables = [path for folder in found for path in sorted(folder.glob("results/*.parquet"))]
    name = sweeps.at_scale("comparison", scale)
    busy |= artefact.write(name, root, tables, "experiments.paper", lambda: compare(root, scale))
    if not busy:
        print("everything is there and up to date: nothing was done", flush=True)


if __name__ == "__main__":
    main()
