"""Figure 1: persistence diagrams of the embedding as the transformer learns, p = 197, α = 0.3.

Claim:    one H1 point separates from the rest: present at steps 30,000 and 50,000, not at step 0.
Command:  python -m experiments.figure1 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_grid (its flagfile says how long); the figure takes a second.
Expected: longest H1 bar about 0.08 at first, 0.20 to 0.25 at the end, several times the second.
          We found the two longest bars nearly equal in places; the table gives both.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, frame_of, main
from grokjax.report import figures, panels
from grokjax.diagnostics import persistence

# Steps 0 (the study: 1), 20,000, 30,000 and 50,000 of 60,000.
SHARES = (0.0, 1 / 3, 1 / 2, 5 / 6)


def make(context: Context) -> Output:
    """Diagrams of the first seed at four steps; their longest and second-longest H1 bars."""
    prime, fraction = context.prime(197), context.fraction(0.3)
    run_id = curves.typical(context.runs(prime=prime, train_fraction=fraction))
    steps = curves.marked_steps(context, SHARES)
    diagrams = {step: context.sweep.diagram(run_id, step) for step in steps}
    figure = figures.persistence_diagrams(diagrams)
    with panels.style():
        title = f"Figure 1: transformer, p = {prime}, α = {fraction:g}, embedding, one seed"
        figure.suptitle(context.title(title), fontsize=8)
    found = {step: persistence.summarize(bars) for step, bars in diagrams.items()}
    rows = [
        {"run_id": run_id, "step": step, "h1_max": one.h1_max, "h1_second": one.h1_second}
        for step, one in found.items()
    ]
    return Output(figure=figure, numbers=frame_of(rows))


ARTEFACT = Artefact(
    name="figure1",
    training="transformer_grid",
    caption="Persistence diagrams of the embedding",
    make=make,
)

if __name__ == "__main__":
    main("figure1")
