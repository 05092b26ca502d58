"""Power cuts: at every flush of a program, whatever the disk kept, nothing committed is lost.

What a disk may hold is in ``tests/power.py``. Each state is read whole, as by ``grokjax.check``;
some are resumed, to tables equal to the bit. Two cuts of a small sweep by default; ``pytest
tests/test_power_cuts.py --thorough --cuts=0 -s`` makes all of ten checkpoints' and of further
programs.
"""

import collections
import pathlib
import random
import re
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from grokjax import merge, sweep
from grokjax.running import audit
from grokjax.store.checkpoints import Reader
from tests import power
from tests.programs import assert_same_tables, call, tables

pytestmark = [
    pytest.mark.usefixtures("no_pages"),
    pytest.mark.skipif(bool(power.problem()), reason=power.problem()),
]
ROOT = pathlib.Path(__file__).parent.parent
GRID = [
    *("--primes=11", "--train_fractions=0.5", "--models=mlp", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--mlp_width=16", "--mlp_depth=1", "--checkpoint_every=10"),
    *("--diagnostics=persistence", "--clouds=embedding", "--state_minutes=0"),
]
# Metrics of the checkpoint of both runs that is being written; going on mends it.
AHEAD = r"metrics: rows of 2 checkpoints that are not there"


def there(workdir):
    """What a person would count on: checkpoints, rows, how far the sweep would be resumed."""
    reader, found = Reader(workdir / "checkpoints"), {"sweep.json"}
    for batch in reader.batches():
        aside = (workdir / "checkpoints" / batch / "damaged").glob("params-*")
        steps = {int(path.name.split("-")[1]) for path in aside}
        found |= {(batch, step) for step in steps.union(reader.steps(batch), reader.gone(batch))}
        latest = max(reader.resumable_steps(batch), default=-1)
        found |= {(batch, "resumable", step) for step in range(latest + 1)}
    for path in (workdir / "results").rglob("*.parquet"):
        if "damaged" not in path.parts and path.name != "runs.parquet":
            name = path.parent.name if ".parts" in path.parts else path.stem.partition("-")[0]
            rows = pq.read_table(path).select(["run_id", "step"]).to_pylist()
            found |= {(name, row["run_id"], row["step"]) for row in rows}
    return found


def told(said):
    """What the program's output says is there."""
    steps = [int(step) for step in re.findall(rb"step (\d+) \|", said)]
    measured = [int(number) for number in re.findall(rb"(\d+) checkpoints measured", said)]
    return steps, max(measured, default=0)


class Cuts:
    """Reads what is left after cuts, and holds it against what was there before."""

    def __init__(self, folder, workdir, expected=None):
        self.folder, self.workdir, self.expected = folder, workdir, re.compile(expected or AHEAD)
        self.pool = folder / "pool"
        self.pool.mkdir(parents=True)
        self.seen, self.promised = {}, set()
        self.faults, self.n_states = collections.Counter(), 0

    def read(self, state):
        """Findings, and what is there, of a state."""
        key = power.key({path: data for path, data in state.items() if ".lock" not in path})
        if key not in self.seen:
            place = self.folder / f"state-{len(self.seen)}"
            power.lay_out(state, place, self.pool)
            findings, found = [], set()
            if f"{self.workdir}/sweep.json" in state:
                try:
                    findings = audit.audit(place / self.workdir).findings
                    found = there(place / self.workdir)
                except Exception as error:
                    findings = [repr(error)]
            self.seen[key] = [text for text in findings if not self.expected.match(text)], found
            shutil.rmtree(place)
        return self.seen[key]

    def hold(self, name, disk, source):
        """Every way in which the disk may be at a cut, read."""
        _, sure = self.read(power.nothing(disk, source))
        self.promised |= sure
        steps, measured = told(disk.said)
        for way in power.WAYS:
            findings, found = self.read(way(disk, source))
            self.n_states += 1
            lost = self.promised - found
            rows = collections.Counter(key[0] for key in found if len(key) == 3)
            n_runs = 2
            if rows["metrics"] < n_runs * len(set(steps)) or rows["persistence"] < measured:
                findings = [*findings, f"rows that were told are lost, {rows}"]
            if lost:
                findings = [*findings, f"lost: {sorted(map(str, lost))[:3]}"]
            for text in findings:
                self.faults[way.__name__, text[:110].replace(str(self.folder), "")] += 1

    def run(self, trace, root, before, n_cuts):
        """Cuts of a recorded program; returns some states to be resumed."""
        names = [name for name, _ in power.cuts(trace, root, before)]
        chosen = power.chosen(names, n_cuts, seed=len(names))
        resumed = power.chosen(sorted(chosen), 40 if n_cuts == 0 else 1, seed=1) - {names[-1]}
        kept = []
        for name, disk in power.cuts(trace, root, before):
            source = random.Random(name)
            if name in chosen:
                self.hold(name, disk, source)
            if name in resumed:
                kept.append(source.choice(power.WAYS)(disk, source))
        self.final = power.nothing(disk, source)
        print(
            f"{len(chosen)} of {len(names)} cuts, {self.n_states} states, {len(self.seen)} differ"
        )
        return kept


def start(name, *arguments):
    program = "tests.sweep_without_pages" if name == "sweep" else f"grokjax.{name}"
    return [sys.executable, "-m", program, *map(str, arguments)]


def run(name, *arguments):
    subprocess.run(start(name, *arguments), cwd=ROOT, check=True, capture_output=True)


def watched(tmp_path, before, n_cuts, name, *arguments, expected=None):
    """Records a command and cuts it; returns the cuts, and states to be resumed."""
    root = tmp_path / "disk"
    root.mkdir()
    if before is not None:
        shutil.copytree(before, root, dirs_exist_ok=True)
    trace = tmp_path / "trace"
    power.record(
        start(name, *arguments, f"--workdir={root / 'w'}"), trace, int(name == "check"), cwd=ROOT
    )
    cuts = Cuts(tmp_path / "cuts", "w", expected)
    states = cuts.run(trace, root, before, n_cuts)
    return root / "w", cuts, states


def assert_resumed(tmp_path, states, reference, arguments):
    """Each state, resumed, ends with the tables of what was left alone, and nothing is wrong."""
    for i, state in enumerate(states):
        place = tmp_path / f"resumed-{i}"
        power.lay_out(state, place)
        assert call(sweep.main, *arguments, f"--workdir={place / 'w'}") == 0
        assert_same_tables(tables(place / "w"), tables(reference))
        found = audit.audit(place / "w")
        assert (found.findings, found.unfinished) == ((), ())
        shutil.rmtree(place)


def test_a_sweep_loses_nothing_that_was_committed(tmp_path, request):
    n_cuts = request.config.getoption("--cuts")
    arguments = [*GRID, f"--steps={20 if 0 < n_cuts < 50 else 100}", "--keep=last"]
    reference, cuts, states = watched(tmp_path, None, n_cuts, "sweep", *arguments)
    assert cuts.faults == {}
    power.lay_out(cuts.final, tmp_path / "final")  # all that it left is on the disk
    assert_same_tables(tables(tmp_path / "final" / "w"), tables(reference))
    found = audit.audit(tmp_path / "final" / "w")
    assert (found.findings, found.unfinished) == ((), ())
    assert_resumed(tmp_path, states, reference, arguments)


# --------------------------------------------------------------------------- further programs

LONG = [*GRID, "--steps=100"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep, in a folder of its own."""
    folder = tmp_path_factory.mktemp("finished")
    run("sweep", *LONG, f"--workdir={folder / 'w'}")
    return folder


def a_shorter_sweep(folder, _):
    run("sweep", *GRID, "--steps=50", f"--workdir={folder / 'w'}")


def damage(folder, finished):
    """A checkpoint and a table that cannot be read."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    (meta,) = (folder / "w").glob("checkpoints/*/params/50/meta/metadata")
    meta.write_bytes(b"")
    (folder / "w" / "results" / "persistence.parquet").write_bytes(b"PAR1")


def nothing_else(folder, finished):
    shutil.copytree(finished, folder, dirs_exist_ok=True)


def two_shards(folder, _):
    for i in range(2):
        run("sweep", *LONG, f"--workdir={folder / 'w'}", f"--shard={i}/2")


DAMAGE = rf"{AHEAD}|checkpoint params of batch \w+ at step 50|.*persistence.parquet|persistence: "
PROGRAMS = {
    "grown": (a_shorter_sweep, "sweep", [*LONG, "--allow=steps", "--keep=last"], AHEAD),
    "mended": (damage, "sweep", LONG, DAMAGE),
    "repaired": (damage, "check", ["--repair"], DAMAGE),
    "measured": (nothing_else, "analyze", ["--cloud_normalisation=none"], "persistence: "),
    "joined": (two_shards, "merge", [], AHEAD),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROGRAMS)
def test_further_programs_lose_nothing(name, finished, tmp_path, request):
    prepare, program, arguments, expected = PROGRAMS[name]
    before = tmp_path / "before"
    before.mkdir()
    prepare(before, finished)
    n_cuts = request.config.getoption("--cuts")
    _, cuts, states = watched(tmp_path, before, n_cuts, program, *arguments, expected=expected)
    assert cuts.faults == {}
    if program == "sweep":
        assert_resumed(tmp_path, states, finished / "w", arguments)
    elif program == "merge":  # what was not joined yet is joined now, or trained
        for i, state in enumerate(states):
            power.lay_out(state, tmp_path / f"again-{i}")
            again = tmp_path / f"again-{i}" / "w"
            assert call(merge.main, f"--workdir={again}") == 0
            assert_same_tables(tables(again), tables(finished / "w"))
