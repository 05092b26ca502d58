"""One run in detail: what its view on the page shows at every checkpoint."""

import itertools
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grokjax.diagnostics import Structure, coordinates, fourier
from grokjax.report import planes
from grokjax.report.page import pack
from grokjax.report.snapshots import Snapshot, Snapshots, telling_steps
from grokjax.settings.grid import Run

Floats = NDArray[np.floating]
Diagrams = Sequence[NDArray[np.float64]]

# Of circular coordinates, cubes of points: 150 clouds of 113, which take about six seconds.
_COORDINATES = 150 * 113**3


def payloads(
    snapshots: Snapshots,
    specs: Mapping[str, Run],
    wanted: Mapping[str, Sequence[int]],
    generalised: Mapping[str, int | None],
) -> dict[str, dict[str, Any]]:
    """Run id → details for the page, of runs at steps at which there are checkpoints.

    ``generalised`` says at which step each did.
    """
    points = {run_id: specs[run_id].task.n_elements for run_id in wanted}
    at = with_coordinates(wanted, points, generalised)
    shots: dict[str, list[Snapshot]] = {run_id: [] for run_id in wanted}
    for shot in sorted(snapshots.read(wanted), key=lambda shot: shot.step):
        shots[shot.run_id].append(shot)
    return {run_id: _of_run(specs[run_id], own, at[run_id]) for run_id, own in shots.items() if own}


def _of_run(run: Run, shots: Sequence[Snapshot], at: Collection[int]) -> dict[str, Any]:
    structure = run.task.structure
    order = planes.reading_order(run.task.n_elements, structure)
    components, shares, plane = [], [], None
    for shot in shots:
        plane, share = planes.principal_plane(shot.cloud[order], plane)
        components.append(plane)
        shares.append([_rounded(value) for value in share])
    last = next((p for p in reversed(components) if np.isfinite(p).all()), components[-1])
    names = planes.element_names(run.task.n_elements, structure)
    found: dict[str, Any] = {
        "steps": [shot.step for shot in shots],
        "elements": [names[place] for place in order],
        "components": pack([plane.ravel() for plane in components]),
        "shares": shares,
        "frequency": planes.circle_frequency(last, structure),
        **bars([shot.diagrams for shot in shots]),
    }
    if structure is not None:
        found |= _spectra(structure, shots)
    cycle = planes.is_cycle(structure)
    own = [_coordinate(s.cloud[order], cycle) if s.step in at else None for s in shots]
    found["coordinates"] = [each and each[1] for each in own]
    nowhere = np.full(len(order), np.nan)
    found["angles"] = pack([each[0] if each else nowhere for each in own])
    if cycle:
        found |= _waves([shot.embedding[order] for shot in shots], [s.cloud[order] for s in shots])
    return found


def with_coordinates(
    wanted: Mapping[str, Sequence[int]],
    points: Mapping[str, int],
    generalised: Mapping[str, int | None],
) -> dict[str, set[int]]:
    """At which of its steps each run's coordinate is computed: some seconds' worth.

    First at the last one of every run, then at those that the page leads to, then at all others.
    """
    first = [(run_id, steps[-1]) for run_id, steps in wanted.items() if steps]
    for run_id, steps in wanted.items():
        when = generalised[run_id]
        told = {*telling_steps(steps, when), *([] if when is None else [when])} & set(steps)
        first += [(run_id, step) for step in sorted(told)]
    every = [(run_id, step) for run_id, steps in wanted.items() for step in steps]
    left, chosen = _COORDINATES, {run_id: set[int]() for run_id in wanted}
    for run_id, step in dict.fromkeys([*first, *every]):
        if points[run_id] ** 3 <= left:
            chosen[run_id].add(step)
            left -= points[run_id] ** 3
    return chosen


def _coordinate(cloud: Floats, cycle: bool) -> tuple[Floats, dict[str, Any]] | None:
    """The angle of each point by the longest bar, and what it is; None if there is no bar."""
    if not np.isfinite(cloud).all():
        return None
    try:
        own = coordinates.circular(cloud)
    except ValueError:  # no integer lift
        return None
    if not own.bars.size:
        return None
    angles = own.angles[:, 0]
    values = {"birth": own.bars[0, 0], "death": own.bars[0, 1], "residual": own.residuals[0],
              "bar_p_value": own.p_values[0]}  # fmt: skip
    wave = coordinates.wave(angles)._asdict() if cycle and len(angles) > 2 else {}
    return angles, {name: _rounded(value) for name, value in (values | wave).items()}


def _spectra(structure: Structure, shots: Sequence[Snapshot]) -> dict[str, Any]:
    """Power of each frequency or irrep, the constant left out, and its share in noise."""
    lens = fourier.lens_of(structure)
    sizes = np.asarray(lens.sizes[1:], np.float64)
    powers = [lens.power(shot.embedding[structure.elements]) for shot in shots]
    return {
        "spectra": pack([fourier.shares(power) for power in powers]),
        "names": list(lens.names[1:]),
        "even": [_rounded(share) for share in sizes / sizes.sum()],
    }


def _waves(rows: Sequence[NDArray[Any]], clouds: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """The plane of the strongest wave of elements in the order of their cycle."""
    frequencies, waves, shares = [], [], []
    for own, cloud in zip(rows, clouds, strict=True):
        k = planes.strongest_frequency(own)
        frequencies.append(k)
        waves.append(planes.fourier_plane(cloud, k or 1).ravel())
        shares.append(_rounded(fourier.shares(fourier.spectrum(own))[k - 1] if k else np.nan))
    return {"frequencies": frequencies, "waves": pack(waves), "wave_shares": shares}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def bars(diagrams: Sequence[Diagrams]) -> dict[str, Any]:
    """Deaths of degree 0, births and deaths of degree 1: a packed row a step, missing at the end.

    The infinite bar of degree 0 is left out; so is every bar of a cloud that was not finite.
    """
    packed = {}
    for name, degree, column in (("h0_deaths", 0, 1), ("h1_births", 1, 0), ("h1_deaths", 1, 1)):
        rows = [degrees[degree][:, column] for degrees in diagrams]
        finite = [row[np.isfinite(row)] for row in rows]
        filled = itertools.zip_longest(*finite, fillvalue=np.nan)
        packed[name] = pack(np.array(list(filled), np.float64).T.reshape(len(rows), -1))
    return packed


def saved_diagrams(
    workdir: pathlib.Path, wanted: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Details of runs whose checkpoints are gone but whose diagrams were saved."""
    path = workdir / "results" / "diagrams.parquet"
    table = pd.read_parquet(path, filters=[("run_id", "in", list(wanted))])
    for run_id, own in table[table["cloud"] == "embedding"].groupby("run_id", sort=False):
        steps = [step for step in wanted[str(run_id)] if (own["step"] == step).any()]
        diagrams = []
        for step in steps:
            degrees = (own[(own["step"] == step) & (own["dimension"] == k)] for k in (0, 1))
            diagrams.append([rows[["birth", "death"]].to_numpy(np.float64) for rows in degrees])
        if steps:
            yield str(run_id), {"steps": steps, **bars(diagrams)}
