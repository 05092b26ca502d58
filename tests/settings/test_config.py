"""Configurations: budgets, reading back what was written, and what version 0.1 wrote."""

import json

import pandas as pd
import pytest

from grokjax.settings import registry
from grokjax.settings.config import Shard, SweepConfig, TrainConfig
from grokjax.settings.fields import FULL, RUN, InvalidSettingError
from grokjax.store import record, results
from grokjax.store import runs as runs_table
from tests.helpers import make_config


def through_json(config):
    return SweepConfig.from_json(json.loads(json.dumps(config.to_json())))


# --------------------------------------------------------------------------- budgets


def test_budgets_refuse_what_cannot_be():
    with pytest.raises(InvalidSettingError, match="--steps=1001: must be a multiple of"):
        TrainConfig(steps=1001, checkpoint_every=500)
    with pytest.raises(InvalidSettingError, match="--checkpoint_every=0: must be an integer"):
        TrainConfig(checkpoint_every=0)
    with pytest.raises(InvalidSettingError, match="--precision=half"):
        TrainConfig(precision="half")
    with pytest.raises(InvalidSettingError, match=r"--batch_size=512 must stay below 2\^31"):
        _ = make_config(steps=10_000_000, every=500, batch_size=[FULL, 512]).grid
    # A full batch takes no positions in the stream.
    assert make_config(steps=10_000_000, every=500, batch_size=[FULL]).grid


def test_the_study_has_121_checkpoints():
    assert len(TrainConfig().checkpoint_steps) == 121
    assert TrainConfig(steps=30, checkpoint_every=10).checkpoint_steps == (0, 10, 20, 30)


# --------------------------------------------------------------------------- reading back

MANY = {
    "model": ["transformer", "mlp"],
    "operation": ["add", "max", "s3_conjugate", "z2^3"],
    "optimizer": ["adamw", "muon"],
    "loss": ["cross_entropy", "stablemax"],
    "biases": [False, True],
    "layer_norm": ["post"],
    "attention_rate": [0.5],
    "batch_size": [FULL, 8],
    "label_permutation": [0.0, 0.5],
    "seed": [2**63 - 1],
}


def test_a_configuration_survives_json():
    config = make_config(**MANY)
    again = through_json(config)
    assert again == config
    assert [run.run_id for run in again.runs] == [run.run_id for run in config.runs]
    assert again.name == config.name
    assert make_config(**MANY | {"biases": [True, False]}).name != config.name


def test_a_shard_survives_json():
    config = make_config(seed=[1, 2, 3])
    members = frozenset(run.run_id for run in config.grid[:2])
    part = SweepConfig(
        axes=config.axes, train=config.train, options=config.options,
        shard=Shard(index=0, count=2), members=members,
    )  # fmt: skip
    again = through_json(part)
    assert again == part
    assert again.runs == config.grid[:2]
    assert again.grid == config.grid


BOTH = {"model": ["transformer", "mlp"], "optimizer": ["muon"]}


@pytest.mark.parametrize("setting", registry.fields())
def test_what_was_written_before_a_setting_existed_has_its_default(setting):
    data = make_config(**BOTH).to_json()
    for own in (own for parts in data["axes"].values() for own in parts.values()):
        own.pop(setting, None)
    default = registry.fields()[setting].default
    assert SweepConfig.from_json(data) == make_config(**BOTH, **{setting: [default]})


@pytest.mark.parametrize(
    ("column", "part", "setting", "values"),
    [
        ("model", "transformer", "d_model", [64.0]),
        ("model", "transformer", "biases", [1]),
        ("model", "transformer", "layer_norm", ["before"]),
        ("model", "transformer", "depth", [2]),
        ("operation", "add", "prime", 23),
        ("operation", "add", "prime", []),
        ("operation", "add", "prime", ["23"]),
        ("optimizer", "adamw", "beta2", [1.0]),
        (RUN, RUN, "batch_size", [False]),
        (RUN, RUN, "batch_size", ["full"]),
    ],
)
def test_axes_that_no_sweep_wrote_are_refused(column, part, setting, values):
    data = make_config().to_json()
    data["axes"][column][part][setting] = values
    with pytest.raises((ValueError, TypeError), match=setting):
        SweepConfig.from_json(data)


def test_a_whole_number_stands_for_a_float():
    data = make_config().to_json()
    data["axes"]["optimizer"]["adamw"]["weight_decay"] = [1]
    (run,) = SweepConfig.from_json(data).runs
    assert run == make_config(weight_decay=[1.0]).runs[0]
    assert run.run_id == make_config(weight_decay=[1.0]).runs[0].run_id


# --------------------------------------------------------------------------- version 0.1


SHAPES = {"d_model": 64, "n_heads": 4, "d_ff": 64, "n_layers": 2, "mlp_width": 128, "mlp_depth": 3,
          "activation": "gelu"}  # fmt: skip
AXES_1 = {
    "model": ["transformer", "mlp"],
    "operation": ["add"],
    "prime": [23, 29],
    "train_fraction": [0.5],
    "label_permutation": [0.0],
    "weight_decay": [1.0],
    "learning_rate": [0.003],
    "init_scale": [1.0],
    "seed": [46],
}
IDS_1 = [
    "transformer-add-p23-f0.5-c0.0-wd1.0-lr0.003-i1.0-s46",
    "transformer-add-p29-f0.5-c0.0-wd1.0-lr0.003-i1.0-s46",
    "mlp-add-p23-f0.5-c0.0-wd1.0-lr0.003-i1.0-s46",
    "mlp-add-p29-f0.5-c0.0-wd1.0-lr0.003-i1.0-s46",
]
RECORD_1 = {
    "format": 1,
    "starts": [{"time": "2026-11-24T09:24:24Z", "grokjax": "0.1.0", "commit": "ddf6230",
                "packages": {"jax": "0.10.2"}}],
    "config": {
        "axes": AXES_1,
        "models": {name: {"model": name, **SHAPES} for name in ("transformer", "mlp")},
        "train": {"steps": 1200, "checkpoint_every": 120, "batch_size": 128,
                  "precision": "float32", "loss_precision": "float64"},
        "options": {"diagnostics": ["persistence", "fourier"], "clouds": ["all"],
                    "cloud_points": 256, "ph_verify": 0.01, "save_diagrams": True,
                    "lid_empirical": "from_one"},
        "shard": None,
    },
    "flags": {"models": "transformer,mlp", "d_model": 64},
    "batches": [IDS_1[:2], IDS_1[2:]],
}  # fmt: skip


def written(folder, **changes):
    (folder / "sweep.json").write_text(json.dumps(RECORD_1 | changes))
    return folder


def test_a_directory_of_version_1_reads_with_its_ids_as_they_were(tmp_path):
    config = record.read_config(written(tmp_path))
    assert [run.run_id for run in config.runs] == IDS_1
    assert config.train == TrainConfig(steps=1200, checkpoint_every=120)
    assert config.options.clouds == ("all",)
    assert config.options.save_diagrams
    for run in config.runs:
        own = {name: value for name, value in SHAPES.items() if name in run.values}
        assert {name: run.values[name] for name in own} == own
        assert run.values["loss_precision"] == "float64"
        assert run.values["batch_size"] == 128
        assert (run.optimizer.name, run.loss.name) == ("adamw", "cross_entropy")
        assert run.values["beta2"] == 0.98
        assert run.values["warmup_steps"] == 10
    assert [run.values.get("n_heads") for run in config.runs] == [4, 4, None, None]
    # Written again, it is of the new form, and its ids stay.
    again = through_json(config)
    assert again == config
    assert [run.run_id for run in again.runs] == IDS_1


def test_a_shard_of_version_1_has_the_runs_of_its_batches(tmp_path):
    part = RECORD_1["config"] | {"shard": "1/2"}
    folder = written(tmp_path, config=part, batches=[IDS_1[1:2], IDS_1[3:]])
    config = record.read_config(folder)
    assert [run.run_id for run in config.runs] == [IDS_1[1], IDS_1[3]]
    assert [run.run_id for run in config.grid] == IDS_1
    assert config.shard == Shard(index=1, count=2)


def test_a_table_of_runs_of_version_1_gains_the_settings_it_lacks(tmp_path):
    config = record.read_config(written(tmp_path))
    old = ["run_id", *AXES_1, "n_train", "status", "memorisation_step", "generalisation_step"]
    none = pd.DataFrame({"run_id": [], "step": []})
    whole = runs_table.table(config.runs, none, 1200)
    results.write_parquet(tmp_path / "runs.parquet", whole[old])
    found = runs_table.read(tmp_path / "runs.parquet", config.runs)
    assert found.equals(whole)
    assert list(runs_table.read(tmp_path / "runs.parquet").columns) == old
