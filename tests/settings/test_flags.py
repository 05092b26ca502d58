"""Flags → configuration: parts by name, and what adapts where it was not asked for."""

import pytest
from absl import flags

from grokjax import sweep
from grokjax.settings.fields import RUN, InvalidSettingError
from grokjax.settings.flags import axis_flags, define_plugins_flag, sweep_config_from


def asked(*arguments):
    """The configuration that a command line describes, and what is said about it."""
    define_plugins_flag()
    sweep.define()
    flags.FLAGS.unparse_flags()
    for name in list(flags.FLAGS):
        flags.FLAGS[name].unparse()
    flags.FLAGS(["sweep", *arguments])
    notes = []
    return sweep_config_from(flags.FLAGS, notes.append), notes


def refused(*arguments):
    with pytest.raises(InvalidSettingError) as caught:
        asked(*arguments)
    return str(caught.value)


def test_the_default_is_the_papers_grid():
    config, notes = asked()
    assert notes == []
    assert len(config.runs) == 3 * 3 * 5
    assert {run.model.name for run in config.runs} == {"transformer"}
    assert {run.task.prime for run in config.runs} == {113, 149, 197}
    assert {run.task.train_fraction for run in config.runs} == {0.2, 0.25, 0.3}
    assert {run.seed for run in config.runs} == set(range(46, 51))
    defaults = {flag: own[0].grid for flag, own in axis_flags().items()}
    for run in config.runs:
        for flag, own in axis_flags().items():
            if own[0].name in run.values:
                assert run.values[own[0].name] in defaults[flag]


def test_every_field_takes_a_comma_list():
    config, notes = asked(
        "--models=mlp,transformer", "--operations=add,s3", "--optimizers=sgd,muon",
        "--losses=stablemax,squared_error", "--primes=23,31", "--train_fractions=0.5",
        "--batch_size=full", "--biases=false,true", "--layer_norm=post,none", "--d_ff=0",
        "--momentum=0.5,0.9", "--seeds=1:3", "--schedules=cosine,linear",
    )  # fmt: skip
    assert notes == []
    assert len(config.runs) == (2 + 2 * 2) * (2 + 1) * (2 + 2) * 2 * 2 * 2
    assert {run.settings.batch_size for run in config.runs} == {0}
    assert {run.values.get("layer_norm") for run in config.runs} == {None, "post", "none"}
    assert len({run.run_id for run in config.runs}) == len(config.runs)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--models=rnn", "--models=rnn: each must be one of transformer, mlp"),
        ("--models=", "names no architecture"),
        ("--models=mlp,mlp", "names must differ"),
        ("--operations=plus", "--operations=plus: each must be one of add, "),
        ("--operations=s2", "s2 holds s2; there is sN from N = 3"),
        ("--optimizers=lion", "each must be one of adamw, "),
        ("--losses=hinge", "each must be one of cross_entropy, "),
        ("--n_heads=3 --d_model=128", "must divide --d_model=128"),
        ("--batch_size=2554", "is more than the 2554 training examples of transformer-add-p113-"),
    ],
)
def test_what_cannot_be_names_the_flag(argument, words):
    if argument.startswith("--batch_size"):
        assert asked(argument)[0].runs  # just as many
        argument = "--batch_size=2555"
    assert words in refused(*argument.split())


def test_a_default_batch_adapts_to_the_smallest_training_set_and_says_so():
    config, notes = asked("--primes=11,23", "--train_fractions=0.5")
    assert {run.settings.batch_size for run in config.runs} == {32}  # of 60 pairs
    assert len(notes) == 1
    assert notes[0].startswith("--batch_size=32: 512 is more than the 60 training examples of")
    assert config.axes[RUN][RUN]["batch_size"] == (32,)
    assert asked("--primes=11", "--batch_size=full")[1] == []


def test_a_flag_that_no_part_of_the_grid_has_is_told():
    config, notes = asked("--operations=s5", "--primes=23", "--momentum=0.5")
    assert notes == ["--primes=23: no part of this grid has it",
                     "--momentum=0.5: no part of this grid has it"]  # fmt: skip
    assert len(config.runs) == 3 * 5


def test_diagnostics_that_fit_no_task_are_left_out_and_told():
    config, notes = asked("--operations=max", "--primes=23", "--batch_size=64")
    assert "fourier" not in config.options.diagnostics
    assert notes == [f"--diagnostics={','.join(config.options.diagnostics)}: fourier fits no task "
                     "here"]  # fmt: skip
    config, notes = asked("--operations=max,add", "--primes=23", "--batch_size=64")
    assert "fourier" in config.options.diagnostics
    assert notes == []


def test_a_task_of_features_finds_a_network_that_learns_it():
    config, notes = asked("--operations=digits")
    assert {run.model.name for run in config.runs} == {"mlp"}
    assert notes[0] == "--models=mlp: transformer learns no features"
    message = refused("--operations=digits", "--models=transformer")
    assert "--models=transformer: cannot learn --operations=digits" in message
