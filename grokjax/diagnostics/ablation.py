"""Interventions: what a network loses when a part of its embedding goes, or is all that stays.

Rows X (n, d) of an embedding stand for elements. A subspace of the functions on the elements, with
an orthonormal basis U (n, m) of functions of mean 0, is taken out of the rows, X − U Uᵀ X, or kept
alone with their mean; then the network answers all pairs again. Its power is ‖Uᵀ X‖². Subspaces are

* ``wave1``, ``wave2`` …: the strongest frequencies, one at a time (of a group: its irreps);
* ``waves``: these together;
* ``loop``: the plane of cos θ and sin θ, where θ is the circular coordinate (``coordinates``) of
  the longest bar of degree 1: what of the embedding goes round as its loop does.

Each stands beside random subspaces of the same dimension and exactly the same power, without which
a loss would say little: any subspace that holds a third of an embedding can be missed.
`random_subspaces` says how they are drawn. Where an embedding consists of a few equal waves, random
subspaces of a wave's power lie among these waves and mix them; ``overlap`` says how much of the
subspace itself they hold.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table, coordinates, irreps

Floats = NDArray[np.float64]

# Of the total power: how near random subspaces come, and what counts as none.
_EXACT = 1e-9
INTERVENTIONS = ("removed", "kept")


class Performance(NamedTuple):
    """Share of right answers and mean cross-entropy in nats; NaN where no pair counts."""

    accuracy: float
    loss: float


def waves(table: ArrayLike, keys: Sequence[int]) -> Floats:
    """(n, m) orthonormal functions of some frequencies, or irreps, of a group's elements.

    Args:
        table: (n, n) Cayley table as in ``irreps``, or n: residues in their order.
        keys: numbers from 1, as in the spectra of ``fourier``.

    Raises:
        ValueError: on a number that there is not.
    """
    if np.ndim(table) == 0:
        n = int(np.asarray(table))
        table = np.add.outer(np.arange(n), np.arange(n)) % n
    found = irreps.decompose(table)
    if not keys or not set(keys) <= set(range(1, len(found.names))):
        raise ValueError(f"keys must lie in 1 … {len(found.names) - 1}, not {list(keys)}")
    return found.basis[:, np.isin(found.block, keys)]


def loop(points: ArrayLike) -> Floats:
    """(n, 2) orthonormal functions: the plane of the longest loop of a cloud (n, d).

    (n, 0) where there is no bar of degree 1, or no map to a circle (see ``coordinates.circular``).

    Raises:
        ValueError: on points that are not finite, or of another shape.
    """
    cloud = np.asarray(points, np.float64)
    nothing = np.zeros((len(cloud), 0))
    try:
        found = coordinates.circular(cloud, 1)
    except ValueError as error:
        if "no integer lift" not in str(error):
            raise
        return nothing
    if not found.bars.size:
        return nothing
    around = np.stack([np.cos(found.angles[:, 0]), np.sin(found.angles[:, 0])], axis=1)
    left, sizes, _ = np.linalg.svd(around - around.mean(axis=0), full_matrices=False)
    return left[:, sizes > _EXACT * max(sizes[0], 1)]


def without(rows: ArrayLike, basis: Floats) -> Floats:
    """Rows (n, d) less their part in a subspace, given by an orthonormal basis (n, m)."""
    own = np.asarray(rows, np.float64)
    left: Floats = own - basis @ (basis.T @ own)
    return left


def alone(rows: ArrayLike, basis: Floats) -> Floats:
    """The mean of the rows (n, d), and their part in a subspace of functions of mean 0."""
    own = np.asarray(rows, np.float64)
    part: Floats = own.mean(axis=0) + basis @ (basis.T @ own)
    return part


def random_subspaces(
    rows: ArrayLike, dimension: int, power: float, n: int, seed: Any = 0
) -> Floats:
    """Random subspaces of functions on the elements, of mean 0, that hold a power exactly.

    Each is first drawn uniformly, then carried along the gradient of its power ‖Uᵀ X‖² on the
    manifold of subspaces, up or down, to where it is the one asked for. That flow is the span of
    exp(t G) U with G = X Xᵀ and raises the power with t from the least to the largest that any
    subspace holds. The draw knows nothing but G: subspaces that an orthogonal map takes into each
    other are as likely as each other, if it leaves G as it is.

    Args:
        rows: (n_elements, d), finite; their mean counts for nothing.
        dimension: 1 … n_elements − 2.
        power: ‖Uᵀ X‖², to 1e-9 of the whole.
        n: how many.
        seed: of ``numpy.random.default_rng``: an integer or a sequence of them.

    Returns:
        (n, n_elements, dimension): an orthonormal basis of each.

    Raises:
        ValueError: if no subspace of that dimension holds the power, or rows are not finite.
    """
    own = np.asarray(rows, np.float64)
    if own.ndim != 2 or not np.isfinite(own).all():
        raise ValueError(f"rows must be finite, of shape (n, d), not {own.shape}")
    if not 1 <= dimension <= len(own) - 2:
        raise ValueError(f"dimension must lie in 1 … {len(own) - 2}, not {dimension}")
    centred = own - own.mean(axis=0)
    vectors = np.linalg.svd(np.ones((len(own), 1)))[0][:, 1:]  # functions of mean 0
    values, inner = np.linalg.eigh((vectors.T @ centred) @ (vectors.T @ centred).T)
    values, vectors = values[::-1].clip(min=0), vectors @ inner[:, ::-1]
    least, most = values[-dimension:].sum(), values[:dimension].sum()
    slack = _EXACT * values.sum()
    if not least - slack <= power <= most + slack:
        held = f"{least:g} … {most:g}"
        raise ValueError(f"subspaces of dimension {dimension} hold {held}, not {power:g}")
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(n, len(values), dimension))
    return np.array([vectors @ _carried(one, values, power, slack) for one in drawn])


def _carried(drawn: Floats, values: Floats, power: float, slack: float) -> Floats:
    """The span of drawn columns, moved along the flow to a power; in the eigenvectors' basis."""
    m = drawn.shape[1]
    up = _power(np.linalg.qr(drawn)[0], values) < power
    if not up:  # the same flow, backwards: eigenvalues in ascending order
        drawn, values = drawn[::-1], values[::-1]
    # A basis [1; W] of the span, whose rows of W all shrink along the flow, so that nothing
    # overflows and small rows keep their digits.
    shares = np.linalg.solve(drawn[:m].T, drawn[m:].T).T
    gaps = np.abs(values[None, :m] - values[m:, None])

    def at(time: float) -> Floats:
        return np.linalg.qr(np.concatenate([np.eye(m), np.exp(-time * gaps) * shares]))[0]

    def excess(time: float) -> float:
        return _power(at(time), values) - power

    end = 1 / max(float(gaps.max()), np.finfo(float).tiny)
    # Eigenvalues whose gap this does not resolve differ by rounding.
    while (excess(end) < 0) == up and abs(excess(end)) > slack and end * gaps.max() < 1e18:
        end *= 2
    if abs(excess(end)) > slack:
        end = float(optimize.brentq(excess, 0.0, end, xtol=1e-300, rtol=1e-14))
    return at(end) if up else at(end)[::-1]


def _power(basis: Floats, values: Floats) -> float:
    return float((basis**2).sum(axis=1) @ values)


def performance(logits: ArrayLike, labels: ArrayLike, counts: ArrayLike) -> Performance:
    """Accuracy and loss of logits (N, Q) for labels (N,) on the examples that count (N,)."""
    which = np.asarray(counts, bool)
    own, label = np.asarray(logits)[which].astype(np.float64), np.asarray(labels)[which]
    if not len(own) or not np.isfinite(own).all():
        return Performance(math.nan, math.nan)
    said = np.take_along_axis(own, label[:, None], axis=1)[:, 0]
    loss = special.logsumexp(own, axis=1) - said
    return Performance(float((own.argmax(axis=1) == label).mean()), float(loss.mean()))


def compare(
    rows: ArrayLike,
    basis: Floats,
    logits_of: Callable[[Floats], ArrayLike],
    labels: ArrayLike,
    train_mask: ArrayLike,
    n: int = 20,
    seed: Any = 0,
) -> list[dict[str, Any]]:
    """What a network answers without a subspace, and with it alone, beside random ones.

    Args:
        rows: (n_elements, d), the embedding, finite.
        basis: (n_elements, m) orthonormal functions of mean 0, such as `waves` or `loop` give.
        logits_of: from other rows of that shape to the network's logits (N, Q).
        labels: (N,) integers; an example whose label is negative counts nowhere.
        train_mask: (N,) booleans; the rest is for testing.
        n: random subspaces of the same power.
        seed: of theirs.

    Returns:
        A dictionary for each intervention and each of train and test, with the columns of the table
        from ``intervention`` on.
    """
    label, train = np.asarray(labels), np.asarray(train_mask, bool)
    groups = {"train": train & (label >= 0), "test": ~train & (label >= 0)}

    def answers(changed: ArrayLike) -> dict[str, Performance]:
        logits = logits_of(np.asarray(changed, np.float64))
        return {name: performance(logits, label, counts) for name, counts in groups.items()}

    own = np.asarray(rows, np.float64)
    held = float(((basis.T @ own) ** 2).sum())
    share = held / max(float(((own - own.mean(axis=0)) ** 2).sum()), np.finfo(float).tiny)
    m = basis.shape[1]
    random = np.zeros((0, *basis.shape))
    if 1 <= m <= len(own) - 2:  # the next larger subspace is everything
        random = random_subspaces(own, m, held, n, seed)
    overlap = float(
        ((random.transpose(0, 2, 1) @ basis) ** 2).sum() / (len(random) or math.nan) / m
    )
    before, found = answers(own), []
    for intervention, change, power in (("removed", without, share), ("kept", alone, 1 - share)):
        after, drawn = answers(change(own, basis)), [answers(change(own, one)) for one in random]
        for pairs in groups:
            key = {"intervention": intervention, "pairs": pairs, "power": power, "overlap": overlap}
            beside = [one[pairs] for one in drawn]
            found.append(key | _changes(before[pairs], after[pairs], beside, power))
    return found


def _changes(
    before: Performance, after: Performance, drawn: Sequence[Performance], power: float
) -> dict[str, Any]:
    """Columns of a row: what an intervention changed, by itself and a unit of power."""
    others = np.array(drawn, np.float64).reshape(-1, 2)
    n, unit = len(others), power if power > _EXACT else math.nan
    mean, sd = np.full((2, 2), math.nan)
    percentile = math.nan
    if n:
        mean = others.mean(axis=0)
        beside = others[:, 1]
        below = np.mean(beside < after.loss) + np.mean(beside == after.loss) / 2
        percentile = 100 * float(below)
    if n > 1:
        sd = others.std(axis=0, ddof=1)
    known = math.isfinite(after.loss) and np.isfinite(others).all()
    return {
        "accuracy_before": before.accuracy,
        "accuracy": after.accuracy,
        "accuracy_lost": (before.accuracy - after.accuracy) / unit,
        "random_accuracy": mean[0],
        "random_accuracy_sd": sd[0],
        "random_accuracy_lost": (before.accuracy - mean[0]) / unit,
        "loss_before": before.loss,
        "loss": after.loss,
        "loss_gained": (after.loss - before.loss) / unit,
        "random_loss": mean[1],
        "random_loss_sd": sd[1],
        "random_loss_gained": (mean[1] - before.loss) / unit,
        "percentile": percentile if known else math.nan,
        "n": n,
    }


_NUMBERS = (
    *("accuracy_before", "accuracy", "accuracy_lost"),
    *("random_accuracy", "random_accuracy_sd", "random_accuracy_lost"),
    *("loss_before", "loss", "loss_gained"),
    *("random_loss", "random_loss_sd", "random_loss_gained", "percentile"),
)
TABLES = {
    "ablation": Table(
        columns={
            "subspace": "str",
            "frequency": "int64",
            "dimension": "int64",
            "intervention": "str",
            "pairs": "str",
            **dict.fromkeys(("power", "overlap", *_NUMBERS), "float64"),
            "n": "int64",
        },
        within=("subspace", "intervention", "pairs"),
        # Of pairs that there are not, one draw, a subspace that has no others, or all power.
        empty=("power", "overlap", *_NUMBERS),
    )
}
SETTINGS = ("cloud_normalisation", "ablation_waves", "ablation_draws")
NEEDS_STRUCTURE = True


def steps(checkpoint_steps: Sequence[int], options: Options) -> set[int]:
    """The checkpoints at which the network is intervened in: every k-th, and the last."""
    return {*checkpoint_steps[:: options.ablation_every], checkpoint_steps[-1]}


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Each subspace removed and kept, on train and test pairs, at one checkpoint.

    ``power`` is the share of the embedding's that an intervention takes out, of elements in their
    group, mean left aside; ``accuracy_lost`` and ``loss_gained`` are changes a unit of it;
    ``random_…`` are means and sample SDs over ``n`` random subspaces, and ``percentile`` is the
    share of these, in percent, after which the loss is lower (ties half). ``overlap`` is the mean
    square of their cosines with the subspace. ``frequency`` is 0 for several waves and for the
    loop, which has no rows where there is none. A network with another embedding for the second
    element keeps that one as it is. An embedding that is not finite has rows of NaN for ``wave1``
    alone.

    Every draw of every subspace is a forward pass over all pairs, removed and kept: with the
    defaults 215 a checkpoint, each as long as an evaluation of the run.
    """
    rows: list[dict[str, Any]] = []
    for view in views:
        if view.structure is not None:
            rows += _measure_one(view, view.structure, options)
    return {"ablation": rows}


def _measure_one(view: RunView, structure: Structure, options: Options) -> list[dict[str, Any]]:
    key = {"run_id": view.run_id, "step": view.step}
    own = view.embedding[structure.elements].astype(np.float64)
    if not np.isfinite(own).all():
        return [key | row for row in _nothing()]

    def logits_of(changed: Floats) -> ArrayLike:
        every = view.embedding.copy()
        every[structure.elements] = changed
        return view.with_embedding(every)

    rows = []
    for subspace, (frequency, basis) in _subspaces(view, structure, options.ablation_waves).items():
        named = {"subspace": subspace, "frequency": frequency, "dimension": basis.shape[1]}
        digest = hashlib.sha256(repr(key | named).encode()).digest()
        seed, n = np.frombuffer(digest, "<u4").tolist(), options.ablation_draws
        found = compare(own, basis, logits_of, view.labels, view.train_mask, n, seed)
        rows += [key | named | row for row in found]
    return rows


def _subspaces(view: RunView, structure: Structure, n_waves: int) -> dict[str, tuple[int, Floats]]:
    """Name → frequency or irrep, 0 for another subspace, and basis."""
    power = irreps.power(view.embedding[structure.elements], irreps.decompose(structure.table))
    strongest = (1 + np.argsort(-power[1:], kind="stable")[:n_waves]).tolist()
    found = {
        f"wave{place}": (key, waves(structure.table, [key]))
        for place, key in enumerate(strongest, start=1)
    }
    if len(strongest) > 1:
        found["waves"] = (0, waves(structure.table, strongest))
    around = loop(view.cloud("embedding")[structure.elements])
    return found | ({"loop": (0, around)} if around.size else {})


def _nothing() -> list[dict[str, Any]]:
    """Rows of an embedding that is not finite."""
    blank: dict[str, Any] = dict.fromkeys(("power", "overlap", *_NUMBERS), math.nan)
    blank |= {"subspace": "wave1", "frequency": 0, "dimension": 0, "n": 0}
    return [
        blank | {"intervention": intervention, "pairs": pairs}
        for intervention in INTERVENTIONS
        for pairs in ("train", "test")
    ]
