"""Bad input: exit code 2, a message that names flag, value and what is allowed, nothing written."""

import os

import pytest

from grokjax import analyze, cli, sweep
from grokjax.diagnostics.persistence import ENGINES
from grokjax.report import drawing
from grokjax.store import locks
from tests.programs import call

FLAGS = """
--d_model=16 --n_heads=2 --d_ff=16 --n_layers=1 --mlp_width=16 --mlp_depth=1 --batch_size=32
--primes=11,13 --train_fractions=0.5 --seeds=1,2 --steps=40 --checkpoint_every=10
--diagnostics=persistence
"""
GRID = FLAGS.split()

REFUSED = [
    ("--primes=1", "--primes=1: 1 cannot be used; each must be an integer from 3 to 1999"),
    ("--primes=abc", "--primes=abc: 'abc' is not an integer"),
    (
        "--train_fractions=1.2",
        "--train_fractions=1.2: 1.2 cannot be used; each must be a number st",
    ),
    ("--train_fractions=0", "--train_fractions=0: 0 cannot be used"),
    ("--train_fractions=0.001", "--train_fractions=0.001: leaves 0 of the 121 pairs of prime 11"),
    ("--seeds=5:5", "--seeds=5:5: the range '5:5' is empty"),
    ("--seeds=1,1", "--seeds=1,1: 1 is given more than once"),
    ("--steps=1001", "--steps=1001: must be a multiple of --checkpoint_every=10"),
    ("--steps=many", "--steps=many"),
    ("--clouds=layer7", "--clouds=layer7: there is no cloud 'layer7'; there are all, embedding, h"),
    ("--clouds=hidden1", "--clouds=hidden1: there is no cloud 'hidden1'"),  # of an MLP
    ("--models=mlp --clouds=layer1", "--clouds=layer1: there is no cloud 'layer1'"),
    ("--diagnostics=dimension", "--lid_neighbors=64: these clouds have no point with so "),
    ("--lid_neighbors=2", "--lid_neighbors=2: must be an integer of at least 3"),
    ("--diagnostics=magic", "--diagnostics=magic: each must be one of ablation, cl"),
    ("--diagnostics=fourier --operations=average", "--diagnostics=fourier: fourier measures tasks"),
    ("--diagnostics=fourier --operations=digits", "no task here has one"),
    ("--ablation_draws=0", "--ablation_draws=0: must be an integer of at least 1"),
    ("--coordinate_classes=7", "--coordinate_classes=7: must lie in 1 … 6"),
    ("--ph_engine=gudhi", f"--ph_engine=gudhi: must be one of {', '.join(ENGINES)}"),
    ("--ph_verify=2", "--ph_verify=2.0: must lie in 0 … 1"),
    ("--precision=tf32", "--precision=tf32: only a GPU has TF32 products"),
    ("--precision=half", "--precision=half: must be one of float32, tf32x3, bfloat16x3, "),
    ("--loss_precision=tf32", "--loss_precision=tf32: tf32 cannot be used; each must be one of fl"),
    ("--loss_precision=float64 --losses=stablemax", "--loss_precision=float64: has no effect: no"),
    ("--runs_per_batch=0", "--runs_per_batch=0: must be an integer of at least 1"),
    ("--keep=first", "--keep=first: must be all, measured, last or every:N with N of at least 1"),
    ("--keep=every:0", "--keep=every:0: must be all"),
    ("--state_minutes=-1", "--state_minutes=-1.0: must be a number of at least 0"),
    ("--plan --runs_per_batch=0", "--runs_per_batch=0: must be"),
    ("--allow=space", "packages, disk"),
    ("--shard=4/4", "--shard=4/4: must be i/N with i from 0 to N - 1"),
    ("--prime=11", "primes"),
    ("--topology_weights=inf", "--topology_weights=inf: inf cannot be used; each must be a finite"),
    ("--topology_term=h2_max", "each must be one of h1_max, h1_total, random_edges"),
    ("--topology_weights=1 --topology_every=4", "--topology_every=4: must divide --checkpoint_ev"),
    ("--topology_weights=1 --models=mlp --operations=digits", "mlp embeds no elements of digits"),
    ("--no_such_flag=1", "no_such_flag"),
    ("stray", "'stray' is not a flag"),
    ("--flagfile=/does/not/exist.flags", "/does/not/exist.flags"),
    # Parts.
    ("--models=rnn", "--models=rnn: each must be one of transformer, mlp"),
    ("--operations=plus", "--operations=plus: each must be one of add, "),
    ("--operations=plus", ", sN, dN, zNxzM…, zN^k, or one of these with _conjugate behind"),
    ("--operations=s9", "--operations=s9: "),
    ("--operations=z1", "--operations=z1: "),
    ("--optimizers=lion", "--optimizers=lion: each must be one of adamw, "),
    ("--losses=hinge", "--losses=hinge: each must be one of cross_entropy, "),
    ("--losses=,", "--losses=,: names no loss"),
    ("--models=mlp,mlp", "--models=mlp,mlp: names must differ"),
    (
        "--operations=digits --models=transformer",
        "--models=transformer: cannot learn --operations=",
    ),
    ("--operations=s3 --train_fractions=0.01", "leaves 0 of the 36 pairs of s3 to train on"),
    # Their settings.
    ("--n_heads=3", "--n_heads=3: must divide --d_model=16"),
    ("--d_model=16,18 --n_heads=4", "--n_heads=4: must divide --d_model=18"),
    ("--d_model=0", "--d_model=0: 0 cannot be used; each must be an integer from 1 to 65536"),
    ("--d_model=16,wide", "--d_model=16,wide: 'wide' is not an integer"),
    ("--d_model=16.0", "--d_model=16.0: '16.0' is not an integer or a range"),
    ("--activation=tanh", "--activation=tanh: tanh cannot be used; each must be one of gelu, "),
    ("--layer_norm=both", "--layer_norm=both: both cannot be used; each must be one of pre, "),
    ("--attention_rate=2", "--attention_rate=2: 2 cannot be used; each must be a number from 0 to"),
    ("--biases=maybe", "--biases=maybe: 'maybe' is not true or false"),
    ("--batch_size=0", "--batch_size=0: 0 cannot be used; each must be an integer of at least 1, "),
    ("--batch_size=-1:2", "--batch_size=-1:2: -1 cannot be used"),
    ("--batch_size=60,61", "--batch_size=61: is more than the 60 training examples of transformer"),
    ("--batch_size=most", "--batch_size=most: 'most' is not an integer"),
    ("--beta2=1", "--beta2=1: 1 cannot be used; each must be a number from 0, below 1"),
    ("--beta2=0.9,nan", "--beta2=0.9,nan: nan cannot be used"),
    ("--epsilon=0", "--epsilon=0: 0 cannot be used; each must be a finite number above 0"),
    ("--warmup_steps=-1", "--warmup_steps=-1: -1 cannot be used"),
    ("--schedules=step", "--schedules=step: step cannot be used; each must be one of constant, "),
    ("--optimizers=sgd --momentum=1", "--momentum=1: 1 cannot be used"),
    ("--momentum=much", "--momentum=much: 'much' is not a number"),  # which AdamW does not have
    ("--mlp_inputs=product", "--mlp_inputs=product: product cannot be used"),
    ("--seeds=0:1000000", "--seeds=0:1000000: at most 100000 values"),
    (
        "--seeds=0:100000 --d_model=2:22:2",
        "--seeds=(100,000 values): the grid has 2,000,000 runs; ",
    ),
    ("--plugins=no_such_module", "--plugins=no_such_module: cannot be imported: ModuleNotFoundErr"),
    ("--plugins=json", "--plugins=json: brings no part and is no diagnostic"),
    ("--allow=colour", "--allow=colour: of models, operations, "),
    ("--max_seconds=-1", "--max_seconds=-1.0: must be at least 0"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_bad_input_exits_with_2_says_why_and_writes_nothing(arguments, words, tmp_path, capsys):
    given = [*GRID, *arguments.split(), f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *given) == cli.EXIT_USAGE
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- defaults adapt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", []),
        ("--operations=digits", [
            "--models=mlp: transformer learns no features",
            "--train_fractions=0.5: no part of this grid has it",
            "--clouds=hidden: no network here has embedding",
            "--diagnostics=persistence,dimension: fourier fits no task here",
        ]),
        ("--operations=add,digits", ["--models=mlp: transformer learns no features"]),
        ("--operations=average", ["--diagnostics=persistence,dimension: fourier fits no task"]),
        ("--operations=average,add", []),
        ("--operations=s4", [
            "--batch_size=256: 512 is more than the 288 training examples of transformer-s4",
            "--lid_neighbors=64: too many for the local dimension of embedding (24 points), which",
        ]),
        ("--operations=s4 --lid_neighbors=10 --batch_size=full", []),
        ("--d_model=6", ["--n_heads=3: 4 does not go with what is asked of transformer"]),
        ("--steps=100", ["--checkpoint_every=10: 500 does not divide --steps=100"]),
        ("--primes=41 --train_fractions=0.3", [
            "--batch_size=256: 512 is more than the 504 training examples of transformer",
            "--lid_neighbors=64: too many for the local dimension of embedding (41 points), which",
        ]),
        ("--optimizers=adamw,sgd --momentum=0", []),
        ("--momentum=0 --mlp_width=9", ["--mlp_width=9: no part of", "--momentum=0: no part of"]),
        ("--operations=s5 --primes=11", ["--primes=11: no part of this grid has it"]),
    ],
)  # fmt: skip
def test_defaults_adapt_and_say_so(arguments, words, tmp_path, capsys, monkeypatch):
    """And what needs no adapting says nothing."""

    def told(values, config, folder, process, stop):
        return cli.EXIT_OK

    monkeypatch.setattr(sweep, "_sweep_all", told)
    given = ["--train_fractions=0.5", *arguments.split(), f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *given) == cli.EXIT_OK
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--")]
    assert len(lines) == len(words), lines
    for line, word in zip(sorted(lines), sorted(words), strict=True):
        assert line.startswith(word)


# --------------------------------------------------------------------------- work directories


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short sweep."""
    workdir = tmp_path_factory.mktemp("finished") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, *GRID, "--steps=10", f"--workdir={workdir}") == 0
    return workdir


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--seeds=1,3", "holds another sweep, with --seeds=1,2 where this one has 1,3; "),
        ("--d_model=16,32", "--d_model=16 where this one has 16,32; name another directory, or the "
         "same settings to resume, or allow the change, which is recorded: --allow=d_model"),
        ("--batch_size=full", "--batch_size=32 where this one has full"),
        ("--optimizers=adamw,sgd", "--optimizers=adamw where this one has adamw,sgd"),
        ("--operations=s4 --train_fractions=0.5", "--operations=add where this one has s4"),
        ("--seeds=3 --allow=seeds", "a sweep can gain runs but not lose any, such as transformer-"),
        ("--schedules=cosine --steps=20", "where this one has"),
    ],
)  # fmt: skip
def test_a_directory_of_another_grid_is_refused_untouched(change, words, finished, capsys):
    before = sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*") if p.is_file())
    given = [*GRID, "--steps=10", *change.split(), f"--workdir={finished}"]
    assert call(sweep.main, *given) == cli.EXIT_USAGE
    assert words in capsys.readouterr().err
    assert before == sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*") if p.is_file())


def test_a_directory_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert call(sweep.main, *GRID, f"--workdir={tmp_path}") == cli.EXIT_USAGE
    assert "holds no sweep" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("place", ["/proc/w", "{tmp}/file/w"])
def test_a_place_that_cannot_be_written_is_refused(place, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    place = place.format(tmp=tmp_path)
    assert call(sweep.main, *GRID, f"--workdir={place}") == cli.EXIT_USAGE
    assert f"--workdir={place}: cannot be written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_sweeps_at_once_are_refused(finished, capsys):
    with locks.owning(finished):
        assert call(sweep.main, *GRID, "--steps=10", f"--workdir={finished}") == cli.EXIT_USAGE
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


def test_analyze_and_report_need_a_sweep(tmp_path, capsys):
    assert call(analyze.main, f"--workdir={tmp_path}") == cli.EXIT_USAGE
    assert "holds no sweep" in capsys.readouterr().err
    assert call(analyze.main) == cli.EXIT_USAGE
    assert "--workdir" in capsys.readouterr().err
