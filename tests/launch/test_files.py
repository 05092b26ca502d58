"""Job scripts and manifests: what can be said of them without a cluster."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(
    path
    for folder in (LAUNCH, LAUNCH.parent / "tests" / "slurm")
    for pattern in ("*.sh", "*/*.sh", "*/*.sbatch")
    for path in folder.glob(pattern)
)


def tool(name):
    """A command of this environment."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    command = [tool("shellcheck"), "-x", "-P", "SCRIPTDIR:SCRIPTDIR/..", "-e", "SC1091", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def validate(manifest):
    return subprocess.run(
        [tool("kubernetes-validate"), "--strict", manifest], capture_output=True, text=True
    )


def test_the_indexed_job_is_valid():
    done = validate(LAUNCH / "k8s/indexed_job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    job = yaml.safe_load((LAUNCH / "k8s/indexed_job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    told = {item["name"]: item.get("value") for item in container["env"]}
    assert told["GROKJAX_SHARDS"] == str(job["spec"]["completions"])


def test_the_job_within_the_jobset_is_valid(tmp_path):
    jobset = yaml.safe_load((LAUNCH / "k8s/jobset.yaml").read_text())
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
    spec = replicated["template"]["spec"]
    (tmp_path / "job.yaml").write_text(json.dumps(job | {"spec": spec}))
    done = validate(tmp_path / "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (container,) = spec["template"]["spec"]["containers"]
    told = {item["name"]: item.get("value") for item in container["env"]}
    assert int(told["JAX_NUM_PROCESSES"]) == spec["completions"] == spec["parallelism"]
    # The host name that JobSet gives the first pod: <set>-<job>-<replica>-<index>.<set>
    name = jobset["metadata"]["name"]
    first = f"{name}-{replicated['name']}-0-0.{name}:1234"
    assert told["JAX_COORDINATOR_ADDRESS"] == first


@pytest.mark.parametrize("name", ["sweep", "analysis"])
def test_sky_files_have_what_they_need(name):
    task = yaml.safe_load((LAUNCH / f"sky/{name}.yaml").read_text())
    assert task["resources"]["use_spot"]
    assert task["resources"]["job_recovery"]["strategy"] == "EAGER_NEXT_REGION"
    assert "grokjax." in task["run"]
    for part in ("setup", "run"):
        done = subprocess.run(["bash", "-n"], input=task[part], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
