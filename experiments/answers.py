"""The answers so far, from committed tables alone: experiments/results/README.md and its figures.

Question: what of the study holds, what does not, what cannot be told and what would it take?
Command:  python -m experiments.answers [--page]; a minute, with --page seconds. First the tables
          are made again that follow from the runs' own committed tables (verdicts, leads, cause,
          ablation); --page reads them as they are. Nothing is trained or measured. Other numbers
          are read from the table beside the README of their question, whose command made them.

A question is a function that words its answer and an entry of `ANSWERS`; nothing else knows it.
"""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np

from experiments import answers_figures, committed, comparison, html_page
from experiments import questions_causes as causes
from experiments import questions_loops as loops
from experiments import questions_mlps as mlps
from experiments import questions_numbers as numbers
from experiments import questions_permuted as permuted
from experiments import questions_seeds as seeds
from experiments.committed import RESULTS, markdown
from grokjax.report import figures

# With places for what is counted.
OPEN = pathlib.Path(__file__).with_name("open_questions.md")
HOLDS, IN_PART, CANNOT_TELL, NOT_ASKED = (
    "What of the study holds",
    "What holds in part, or is not shown",
    "What cannot be told",
    "What the study does not ask",
)
TIME, CHANCE, LAYERS = "over_time.svg", "answers.svg", "table2/table2.svg"
TASKS, SPIKES = "controls/tasks.svg", "leads/fine113/spikes.svg"
PERMUTED = "permuted/permuted.svg"
# Those that are drawn with the page.
FIGURES = {
    CHANCE: answers_figures.beside_chance,
    TIME: answers_figures.over_time,
    LAYERS: answers_figures.table2,
    TASKS: answers_figures.tasks,
    PERMUTED: answers_figures.permuted,
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question with its answer.

    Attributes:
        question: as a researcher would ask it.
        words: makes the answer, with n and intervals: its first paragraph is the row's, the
            others are its section's.
        folder: of results/, where method and limits are.
        study: what the study says of it, and whether that holds.
        group: one of the four headings.
        command: makes the table again; by default the experiment named as the folder.
        figure: file below results/; none if empty.
        more: makes the table of its section, if there is one.
    """

    question: str
    words: Callable[[], str]
    folder: str
    study: str = "Not asked."
    group: str = NOT_ASKED
    command: str = ""
    figure: str = ""
    more: Callable[[], str] | None = None


ANSWERS = (
    Answer(
        "Does H1 max of the embedding rise as a network generalises?",
        numbers.h1_max_rises, "fifteen_runs",
        "0.075–0.08 → 0.20–0.25 (Fig. 3), 0.08 → 0.29–0.35 (Fig. 4). **The rise holds**; whether "
        "its height does cannot be told.",
        HOLDS, "python -m experiments.answers", TIME, numbers.rises_more,
    ),
    Answer(
        "Which comes first, accuracy or topology?",
        causes.leads, "leads",
        "Accuracy, by about 1,000 steps in transformers with some labels permuted (Fig. 12); about "
        "together in MLPs at α = 0.2 (Fig. 14). **The order holds over all of training** (around "
        "generalisation: below); of peaks of cross-correlation Figure 14's cannot be told, and "
        "Figure 12's are run at 10 % alone (below).",
        HOLDS, "python -m experiments.answers", TIME, causes.leads_more,
    ),
    Answer(
        "Which comes first, every 50 steps around generalisation?",
        seeds.fine, "leads",
        "Accuracy, by about 1,000 steps in transformers with some labels permuted (Fig. 12). "
        "**Not told within these steps: median lags are of one checkpoint.**",
        IN_PART, "python -m experiments.answers", SPIKES,
    ),
    Answer(
        "Is ρ with test accuracy that of Table 1?",
        numbers.same_rho, "verdicts",
        "H0 max, H0 total, H1 max and H1 total go with accuracy (Table 1). **Holds for most of the "
        "embedding and of layer 1. H1 total of both layers and H1 max of layer 2 have the other "
        "sign.**",
        IN_PART, "python -m experiments.answers", TIME,
    ),
    Answer(
        "Does H1 rise with a tenth or a fifth of the labels permuted?",
        permuted.rises, "permuted",
        "With up to 10 % of labels permuted networks generalise and have the signature, with 20 % "
        "it is gone (section 4.3, Fig. 5). **At 10 % they generalise, and H1 max rises in each, "
        "but far less than with true labels. At 20 % none generalises within the study's 60,000 "
        "steps, and H1 max hardly moves.**",
        IN_PART, "python -m experiments.answers", PERMUTED,
    ),
    Answer(
        "Is ρ with test accuracy that of Table 1, with a tenth or a fifth permuted?",
        permuted.cells, "permuted",
        "At 10 % H0 max, H0 total and H1 max go with accuracy in the embedding and both layers, "
        "H1 total in the layers; at 20 % nothing does (Table 1). **At 10 % most of H0 and H1 max "
        "is found again, H1 total of the layers is not. At 20 % next to nothing can be told.**",
        IN_PART, "python -m experiments.answers", PERMUTED, permuted.cells_more,
    ),
    Answer(
        "Which comes first in the layers, with true labels and with a tenth permuted?",
        permuted.order, "permuted",
        "Accuracy, before the embedding by about 1,000 steps and before layer 1 by 500; layer 2 "
        "comes with it (Fig. 12: cross-correlation, 1 to 10 % permuted). **With true labels the "
        "embedding comes thousands of steps behind accuracy, and layer 2 with it. With a tenth "
        "permuted layer 2 comes before it, as far as a test chosen later can say.**",
        IN_PART, "python -m experiments.answers", "", permuted.order_more,
    ),
    Answer(
        "Is ρ with test accuracy that of Table 2, with true labels?",
        mlps.true_labels, "table2",
        "H0 and H1 total fall with accuracy in every layer, H1 max rises (Table 2), though in "
        "Figure 4 H1 total of the embedding rises. **H1 total of the embedding does not fall; in "
        "hidden layers that depends on how many states are taken. Of most cells nothing can be "
        "told.**",
        IN_PART, "python -m experiments.answers", LAYERS, mlps.true_labels_more,
    ),
    Answer(
        "Does H1 total of the embedding rise?",
        numbers.h1_total_rises, "fifteen_runs",
        "≈ 20 → 30–50 (transformer, Fig. 3), ≈ 20 → 30–70 (MLP, Fig. 4). **Holds for MLPs and at "
        "p = 113; where Fig. 3 has it, in one of two trainings of the same five seeds.**",
        IN_PART, "python -m experiments.answers", CHANCE,
    ),
    Answer(
        "Is there one dominant loop?",
        loops.one_loop, "fifteen_runs",
        "One H1 point separates from the rest (Fig. 1: one run). **Not shown as a rule.**",
        IN_PART, "python -m experiments.answers", TIME, loops.one_loop_more,
    ),
    Answer(
        "Which of its claims hold with fifty seeds? (small)",
        seeds.fifty, "fifty_seeds",
        "H1 rises, one loop dominates, ρ has the signs of Table 1, accuracy comes first: of five "
        "seeds. **All hold in a small network, but the one loop.**",
        IN_PART, "python -m experiments.answers", "fifty_seeds/fifty_seeds.svg", seeds.fifty_more,
    ),
    Answer(
        "Are its numbers found again?",
        numbers.same_numbers, "verdicts",
        "21 numbers and 140 cells. **Few can be told with five runs.**",
        CANNOT_TELL, "python -m experiments.answers", "", numbers.same_numbers_more,
    ),
    Answer(
        "Would clouds with the same spectrum have it by chance?",
        loops.chance, "surrogates", command="python -m experiments.surrogate_table",
        figure=CHANCE, more=loops.chance_more,
    ),
    Answer("Is the loop that of the residues modulo p?", loops.whose_wave, "waves",
           "Taken as such, not tested."),
    Answer("Circle or torus?", loops.holes, "holes"),
    Answer("Does H1 foretell generalisation? (small)", causes.predicts, "head_to_head",
           command="python -m experiments.head_to_head --checkpoints=…/checkpoints.csv",
           figure="head_to_head/head_to_head.svg"),
    Answer("Do loops cause generalisation? (small)", causes.causes, "cause",
           command="python -m experiments.answers", figure="cause/cause.svg",
           more=causes.causes_more),
    Answer("What does a network lose without its strongest wave? (small)", causes.carries,
           "ablation", command="python -m experiments.answers", figure="ablation/ablation.svg"),
    Answer("Does H1 rise more where networks generalise? (small)", causes.phases, "phase",
           figure="phase/phase.svg"),
    Answer("Do accuracy and topology change evenly?", seeds.jumps, "leads",
           command="python -m experiments.answers", figure=SPIKES),
    Answer("Does H1 rise in a task without a group?", causes.without_a_group_at_size,
           "controls", command="python -m experiments.answers", figure=TASKS),
    Answer("Does H1 rise in a group without long cycles?", causes.short_cycles_at_size,
           "controls", command="python -m experiments.answers", figure=TASKS),
    Answer("Does H1 rise in a task that is not of a sum?", causes.another_kind_at_size,
           "controls", command="python -m experiments.answers", figure=TASKS),
    Answer("Does H1 rise in tasks without a cyclic group? (small)", causes.without_a_group,
           "controls", more=causes.without_a_group_more),
    Answer("Which significance tests keep their level of 5 %? (simulated)", causes.tests_hold,
           "rejection_rates", "p below 0.05, without a test named (Tables 1 and 2)."),
)  # fmt: skip

HEAD = """# Answers so far

Made by `python -m experiments.answers` from committed tables. Networks at the study's size are
fifteen: transformers at p = 113 and 197, MLPs at p = 197, five seeds each, α = 0.3
([what they are](fifteen_runs/README.md)), fifteen of three controls, five MLPs at α = 0.2
([Table 2](table2/README.md)), five transformers with a tenth and five with a fifth of the labels
permuted ([these](permuted/README.md)) and eight with a checkpoint every 50 steps; rows marked
*small* are of far smaller ones. The folder behind each answer has method, limits and what it took;
commands whose tables rest on checkpoints or embeddings need those, which are not here.

**Reading it.** The unit is the run: n counts runs, or pairs of them; checkpoints and statistics of
a run are not counted as cases. *Before* is the mean of a run's checkpoints from memorisation (train
accuracy 0.99) up to generalisation (test accuracy 0.9), *after* that of the last fifth of its
training. The *last checkpoint* is step 20,000 (p = 113), 45,000 (p = 197) and 40,000 (MLP). Each
interval has its level beside it. Nothing is corrected for the number of questions on this page. A
row has the answer in short; *more* leads to the rest of it, further down.
"""
CAPTION = """
![H1 max and H1 total of fifteen embeddings before and after generalisation, beside random clouds of
the same singular values and of the same power at each frequency]({chance})

*Fifteen embeddings beside chance. Dots: the last checkpoint, and a second one where it is measured;
thin lines: all checkpoints from generalisation on; bars: 5th to 95th percentile of 99 random clouds
made of the embedding at the last checkpoint.*
"""
# Source of the study's numbers → what of it is not run.
NOT_RUN = {
    "table2": "MLP at α = 0.2, permuted labels: four statistics, four layers, four levels",
    "table1": "transformer: 1 and 5 % of labels permuted",
    "fig3": "α = 0.2; local dimension before and after",
    "fig10": "MLP at p = 149, hidden layer 3",
    "fig6": "MNIST",
    "sec4.3": "up to which level of permuted labels it generalises",
}


def signed(text: str) -> str:
    """Text with a minus sign before numbers where it had a hyphen."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def anchor(heading: str) -> str:
    """The name that Markdown on the web gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def row(answer: Answer, short: str, more: str) -> str:
    """An answer's line of its table; ``more``: text of its section."""
    command = answer.command or f"python -m experiments.{answer.folder}"
    links = [f"[more](#{anchor(answer.question)})"] if more else []
    links += [f"[figure]({answer.figure})"] if answer.figure else []
    links += [f"[{answer.folder}]({answer.folder}/README.md)"]
    cells = [answer.question, answer.study, short, f"{', '.join(links)}; `{command}`"]
    return f"| {' | '.join(cells)} |"


def said(answer: Answer) -> tuple[str, str]:
    """What stands in the row, and in the section, of an answer."""
    short, _, rest = answer.words().partition("\n\n")
    return short, "\n\n".join(filter(None, [rest, answer.more() if answer.more else ""]))


def not_told() -> str:
    """A table of the numbers that cannot be told, with the seeds a verdict would take."""
    rows = comparison.needed(committed.table("verdicts/comparison.csv"))
    of, lines = html_page.number, []
    for one in rows.itertuples():
        study = " to ".join(dict.fromkeys([of(one.paper_low), of(one.paper_high)]))
        ours = f"{of(one.ours)} ({of(one.low)} to {of(one.high)})"
        needed = "not known" if np.isnan(one.seeds_needed) else (
            f"{one.seeds_needed:,.0f}" if np.isfinite(one.seeds_needed) else
            "none suffices" if one.source.startswith("table") else "more than 1,000")  # fmt: skip
        needed += f": {one.why}" if one.why else ""
        lines.append([one.what, f"{study} ± {of(one.margin)}", ours, needed])
    return markdown(["number", "study", "ours", "seeds that a verdict takes"], lines)


def not_run() -> str:
    """A table of what is not run, by source."""
    rows = committed.table("verdicts/comparison.csv").query("verdict == 'not run'")
    counts = rows.source.value_counts()
    return markdown(
        ["source", "numbers not run", "of what"],
        [[source, count, NOT_RUN.get(source, "")] for source, count in counts.items()],
    )


def budget() -> dict[str, str]:
    """What the length of training does to H1 max."""
    frame = committed.checkpoints()
    share = frame.step / frame.groupby("runs").step.transform("max")
    near, last = (
        frame[(share >= low) & (share <= high)].groupby(["runs", "seed"]).h1_max.mean()
        for low, high in ((0.75, 0.85), (0.9, 1.0))
    )
    same = 0.02  # "flat": less than the two digits in which the study states H1 max
    mlp = (last / near).loc["mlp197"]
    shorter = committed.table("leads/leads_shorter.csv")
    own = shorter[shorter.reference == "test accuracy"]
    return {
        "flat": str((abs(mlp - 1) < same).sum()),
        "flat_share": committed.percent(same),
        "flat_values": ", ".join(
            f"{x:.3f} → {y:.3f}" for x, y in zip(near["mlp197"], last["mlp197"], strict=True)
        ),
        "mlp_mean": f"{committed.windows('h1_max').loc['mlp197', 'after'].mean():.3f}",
        "growth": f"{np.exp(np.log((last / near).loc['p113']).mean()):.2f}",
        "shorter_behind": f"{own.after.sum()} of {own.n.sum()}",
    }


def counted() -> dict[str, str]:
    """What the text of open questions has places for."""
    rows = committed.table("verdicts/comparison.csv")
    over = {}
    for name in ("max", "total"):
        own = committed.beside(f"h1_{name}", "frequency_power")
        ratio = committed.ratio_interval(own.value / own["mean"])[0]
        over[f"over_{name}"] = f"{100 * (ratio - 1):.0f}"
    return {
        "open_numbers": not_told(),
        "not_run": str((rows.verdict == "not run").sum()),
        "all_numbers": str(len(rows)),
        "not_run_table": not_run(),
    } | budget() | numbers.again() | over  # fmt: skip


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD, CAPTION.format(chance=CHANCE)]
    texts = {answer: said(answer) for answer in ANSWERS}
    for group in (HOLDS, IN_PART, CANNOT_TELL, NOT_ASKED):
        own = [row(answer, *texts[answer]) for answer in ANSWERS if answer.group == group]
        header = (
            "| question | the study says | answer | evidence, figure, command |\n|---|---|---|---|"
        )
        parts += [f"## {group}\n", header, *own, ""]
    parts += [OPEN.read_text(encoding="utf-8").format(**counted()), "## Question by question\n"]
    for answer, (_, more) in texts.items():
        parts += [f"### {answer.question}\n", more, ""] if more else []
    parts += [
        "## Also here\n",
        "[Published recipes](recipes/README.md) run again, [precision](precision/README.md), "
        "[one run at the paper's size](paper_p113/README.md), [the study at small scale]"
        "(paper_small/README.md), [the quick sweep](quick/README.md), [benchmarks]"
        "(benchmarks/README.md).",
    ]
    return signed("\n".join(parts) + "\n")


def main() -> None:
    """Makes the tables that follow from others, then the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--page", action="store_true", help="the page alone, of tables as they are")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder of the page")
    asked = parser.parse_args()
    if not asked.page:
        for path, frame in committed.remade().items():
            frame.to_csv(RESULTS / path, index=False)
            print(RESULTS / path, flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "README.md").write_text(page(), encoding="utf-8")
    for path, made in FIGURES.items():
        (asked.out / path).parent.mkdir(exist_ok=True)
        figures.save(made(), asked.out / path)
    print(asked.out / "README.md")


if __name__ == "__main__":
    main()
