"""The shell scripts: which Python they choose, and when they make, complete or reuse .venv."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BASH = shutil.which("bash")

# Stands for an interpreter of another version, or one without a module: the real one, told so.
PATCHED_PYTHON = """#!/bin/sh
shift
exec {python} -c {code} "$@"
"""

# What a version manager leaves on PATH for a Python that is not selected.
ERROR_SHIM = """#!/bin/sh
echo "manager: python3.12: command not found" >&2
echo "The command exists in these versions: 3.12.1" >&2
exit 127
"""

# Answers the probe, copies itself for `-m venv`, and notes what is installed and imported.
FAKE_PYTHON = """#!/bin/bash
case "$*" in
  *"-m venv"*) echo venv >>"$CALLS"
    mkdir -p "${{!#}}/bin" && cp "$0" "${{!#}}/bin/python" && [[ -z ${{VENV_FAILS:-}} ]] ;;
  *"-m pip install"*) echo "pip ${{!#}}" >>"$CALLS"
    [[ $* != *"--no-index --find-links=wheels "* ]] || echo "from wheels" >>"$CALLS"
    for ((i = 0; i < 3000; i++)); do
      [[ -z ${{PIP_WAITS_FOR:-}} || -e $PIP_WAITS_FOR ]] && break
      sleep 0.02
    done
    if [[ -n ${{PIP_FAILS:-}} ]]; then echo "no such version" >&2; exit 1; fi ;;
  *"sys.version_info"*) printf 'python\\t{version}\\t%s\\t{base}\\n' "$0" ;;
  *"-c "*) echo import >>"$CALLS" ;;
  *) echo "run $*" >>"$CALLS" ;;
esac
"""

INSTALL_CORE = ["pip pip", "pip .", "import"]
PYTEST = "run -m pytest -n 3 --dist loadfile --no-loadscope-reorder"
INSTALL_TEST = ["pip pip", "pip .[test]", "import"]


def write_command(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    command = directory / name
    command.write_text(text)
    command.chmod(0o755)
    return command


def patched_python(directory: Path, name: str, patch: str) -> Path:
    code = shlex.quote(f"import sys; {patch}; exec(sys.argv.pop(1))")
    text = PATCHED_PYTHON.format(python=shlex.quote(sys.executable), code=code)
    return write_command(directory, name, text)


def version_python(directory: Path, name: str, version: tuple[int, int, int]) -> Path:
    return patched_python(directory, name, f"sys.version_info = {version}")


def find_python(*path: Path, grokjax_python: str | None = None) -> subprocess.CompletedProcess:
    """Run find_python with nothing but the directories on PATH."""
    script = 'source "$1"; PATH=$2; find_python 3.12 3.11'
    environment = {"PATH": os.environ["PATH"]}
    if grokjax_python is not None:
        environment["GROKJAX_PYTHON"] = grokjax_python
    return subprocess.run(
        [BASH, "-c", script, "bash", PROJECT / "launch/python.sh", ":".join(map(str, path))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_shim_that_prints_an_error_is_passed_over(tmp_path):
    write_command(tmp_path / "shims", "python3.12", ERROR_SHIM)
    version_python(tmp_path / "bin", "python3.12", (3, 12, 4))
    found = find_python(tmp_path / "shims", tmp_path / "bin")
    assert found.returncode == 0, found.stderr
    version, executable, base = found.stdout.rstrip("\n").split("\t")
    assert version == "3.12.4"
    assert base == sys.base_prefix
    assert Path(executable).samefile(sys._base_executable)
    assert found.stderr == ""


def test_shim_that_prints_an_error_and_succeeds_is_passed_over(tmp_path):
    write_command(tmp_path / "a", "python3.12", "#!/bin/sh\necho python not selected\nexit 0\n")
    version_python(tmp_path / "b", "python3", (3, 11, 9))
    found = find_python(tmp_path / "a", tmp_path / "b")
    assert found.stdout.startswith("3.11.9\t")


def test_newer_supported_version_is_preferred_whatever_its_name_and_place(tmp_path):
    version_python(tmp_path / "a", "python3.11", (3, 11, 9))
    version_python(tmp_path / "a", "python3", (3, 11, 8))
    version_python(tmp_path / "b", "python", (3, 12, 2))
    found = find_python(tmp_path / "a", tmp_path / "b")
    assert found.stdout.startswith("3.12.2\t")


def test_unsupported_pythons_are_passed_over(tmp_path):
    version_python(tmp_path / "a", "python3", (3, 10, 13))
    version_python(tmp_path / "b", "python3", (3, 13, 0))
    patched_python(tmp_path / "c", "python3.12", "sys.modules['ensurepip'] = None")
    version_python(tmp_path / "d", "python3", (3, 11, 2))
    found = find_python(*(tmp_path / name for name in "abcd"))
    assert found.stdout.startswith("3.11.2\t")


def test_no_python_that_will_do_names_what_was_tried(tmp_path):
    shim = write_command(tmp_path / "shims", "python3.12", ERROR_SHIM)
    old = version_python(tmp_path / "bin", "python3", (3, 10, 13))
    bare = patched_python(
        tmp_path / "bin",
        "python3.11",
        "sys.version_info = (3, 11, 2); sys.modules['ensurepip'] = None",
    )
    pypy = patched_python(
        tmp_path / "bin",
        "python",
        "sys.version_info = (3, 11, 2); sys.implementation.name = 'pypy'",
    )
    found = find_python(tmp_path / "shims", tmp_path / "bin")
    assert found.returncode != 0
    assert found.stdout == ""
    assert "CPython 3.12 or 3.11 with venv and ensurepip is needed" in found.stderr
    assert f"{shim}: manager: python3.12: command not found" in found.stderr
    assert f"{old}: is Python 3.10.13" in found.stderr
    assert f"{bare}: is Python 3.11.2 without the module ensurepip" in found.stderr
    assert f"{pypy}: is pypy, not CPython" in found.stderr
    assert "GROKJAX_PYTHON" in found.stderr


def test_no_python_at_all(tmp_path):
    found = find_python(tmp_path)
    assert found.returncode != 0
    assert found.stdout == ""
    assert "no python3.12 python3.11, python3 or python on PATH" in found.stderr


def test_variable_overrides_the_search(tmp_path):
    version_python(tmp_path / "bin", "python3.12", (3, 12, 4))
    named = version_python(tmp_path / "a place", "mypython", (3, 11, 9))
    found = find_python(tmp_path / "bin", grokjax_python=str(named))
    assert found.stdout.startswith("3.11.9\t")


def test_variable_naming_an_unsupported_python_is_an_error(tmp_path):
    version_python(tmp_path / "bin", "python3.12", (3, 12, 4))
    named = version_python(tmp_path / "other", "python3", (3, 13, 0))
    found = find_python(tmp_path / "bin", grokjax_python=str(named))
    assert found.returncode != 0
    assert found.stdout == ""
    assert f"GROKJAX_PYTHON={named} will not do (is Python 3.13.0)" in found.stderr


class Checkout:
    """A copy of the scripts with a fake Python 3.12 first on PATH."""

    def __init__(self, root: Path, commands: Path, calls: Path):
        self.root, self.commands, self.calls = root, commands, calls
        self.release = calls.with_name("release")
        shutil.copytree(PROJECT / "launch", root / "launch")
        shutil.copy(PROJECT / "pyproject.toml", root)
        self.add_python("python3.12", "3.12.1", "/usr/lib/3.12")
        for name in ("chromium", "chromedriver"):  # or test.sh would install them
            write_command(commands, name, "#!/bin/sh\n")

    def add_python(self, name: str, version: str, base: str) -> Path:
        text = FAKE_PYTHON.format(version=version, base=base)
        return write_command(self.commands, name, text)

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen:
        path = f"{self.commands}:{os.environ['PATH']}"
        return subprocess.Popen(
            [BASH, self.root / "launch" / script, *arguments],
            cwd="/",
            env={"PATH": path, "CALLS": str(self.calls), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start_and_wait_in_pip(self) -> subprocess.Popen:
        """Start local.sh and return once its pip runs, until self.release exists or for 60 s."""
        process = self.start("local.sh", PIP_WAITS_FOR=str(self.release))
        while not (self.calls.exists() and "pip" in self.calls.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        return process

    def run(self, script: str, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
        """Run a script to its end: exit code, messages, and the fake Python's calls."""
        self.calls.write_text("")
        process = self.start(script, *arguments, **variables)
        output, messages = process.communicate(timeout=60)
        return process.returncode, output + messages, self.calls.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "a place" / "grokjax", tmp_path / "bin", tmp_path / "calls")


SWEEP = "run -m grokjax.sweep --flagfile=experiments/quick.flags"


def test_local_sets_up_once_and_passes_the_flags_on(checkout):
    code, messages, calls = checkout.run("local.sh", "--seeds=1,2", "--workdir=a b")
    assert code == 0, messages
    assert calls == ["venv", *INSTALL_CORE, f"{SWEEP} --seeds=1,2 --workdir=a b"]
    assert messages == "Setting up .venv with Python 3.12.1 (once; a minute or two)…\n"
    code, messages, calls = checkout.run("local.sh")
    assert (code, messages, calls) == (0, "", [SWEEP])


def test_test_extra_completes_the_environment_and_serves_both(checkout):
    checkout.run("local.sh")
    code, messages, calls = checkout.run("test.sh", "-k", "grid")
    assert code == 0, messages
    stages = ["run -m ruff check", "run -m ruff format --check", "run -m mypy"]
    assert calls == [*INSTALL_TEST, *stages, f"{PYTEST} -k grid"]
    assert checkout.run("local.sh")[2] == [SWEEP]
    assert "venv" not in checkout.run("test.sh")[2]


def test_failing_stage_fails_the_whole_and_hides_no_other(checkout):
    checkout.run("test.sh")
    python = checkout.root / ".venv/bin/python"
    text = python.read_text()
    python.write_text(text.replace('  *) echo "run', '  *"ruff check") exit 3 ;;\n  *) echo "run'))
    code, messages, calls = checkout.run("test.sh")
    assert code == 1
    assert "lint    FAILED" in messages
    assert "types   passed" in messages
    assert calls[-1] == PYTEST


@pytest.mark.parametrize("changed", ["pyproject.toml", "launch/constraints.txt"])
def test_changed_requirements_are_installed(checkout, changed):
    checkout.run("local.sh")
    with open(checkout.root / changed, "a") as file:
        file.write("\n")
    assert checkout.run("local.sh")[2] == [*INSTALL_CORE, SWEEP]
    assert checkout.run("local.sh")[2] == [SWEEP]


def test_failed_installation_is_shown_and_started_afresh(checkout):
    code, messages, calls = checkout.run("local.sh", PIP_FAILS="yes")
    assert code != 0
    assert calls == ["venv", "pip pip"]
    assert "The installation failed" in messages
    assert "no such version" in messages
    code, messages, calls = checkout.run("local.sh")
    assert code == 0
    assert "Replacing .venv: its installation did not finish." in messages
    assert calls == ["venv", *INSTALL_CORE, SWEEP]


def test_failed_making_is_started_afresh(checkout):
    code, _, calls = checkout.run("local.sh", VENV_FAILS="yes")
    assert code != 0
    assert calls == ["venv"]
    assert checkout.run("local.sh")[2] == ["venv", *INSTALL_CORE, SWEEP]


def test_failed_completion_is_started_afresh(checkout):
    checkout.run("local.sh")
    code, _, calls = checkout.run("test.sh", PIP_FAILS="yes")
    assert code != 0
    assert calls == ["pip pip"]
    assert checkout.run("local.sh")[2] == ["venv", *INSTALL_CORE, SWEEP]


def test_killed_installation_is_started_afresh(checkout):
    with checkout.start_and_wait_in_pip() as process:
        os.killpg(process.pid, signal.SIGKILL)
    _, messages, calls = checkout.run("local.sh")
    assert "Replacing .venv: its installation did not finish." in messages
    assert calls == ["venv", *INSTALL_CORE, SWEEP]


def test_broken_environment_is_replaced(checkout):
    checkout.run("local.sh")
    (checkout.root / ".venv/bin/python").unlink()
    code, messages, calls = checkout.run("local.sh")
    assert code == 0
    assert messages.startswith("Replacing .venv: its Python ")
    assert calls == ["venv", *INSTALL_CORE, SWEEP]


def test_moved_checkout_gets_a_new_environment(checkout):
    checkout.run("local.sh")
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    _, messages, calls = checkout.run("local.sh")
    assert messages.startswith("Replacing .venv: it was made in another place.")
    assert calls == ["venv", *INSTALL_CORE, SWEEP]


def test_variable_naming_another_python_replaces_the_environment(checkout):
    checkout.run("local.sh")
    same = str(checkout.commands / "python3.12")
    assert checkout.run("local.sh", GROKJAX_PYTHON=same)[2] == [SWEEP]
    other = str(checkout.add_python("other", "3.11.7", "/usr/lib/3.11"))
    _, messages, calls = checkout.run("local.sh", GROKJAX_PYTHON=other)
    assert "Setting up .venv with Python 3.11.7" in messages
    assert calls == ["venv", *INSTALL_CORE, SWEEP]
    assert checkout.run("local.sh", GROKJAX_PYTHON=other)[2] == [SWEEP]
    assert checkout.run("local.sh")[2] == [SWEEP]


def test_variable_naming_a_bad_python_leaves_the_environment_alone(checkout):
    checkout.run("local.sh")
    code, messages, calls = checkout.run("local.sh", GROKJAX_PYTHON="/no/such/python")
    assert code != 0
    assert "GROKJAX_PYTHON=/no/such/python will not do" in messages
    assert calls == []
    assert checkout.run("local.sh")[2] == [SWEEP]


def test_two_starts_at_once_install_once(checkout):
    with checkout.start_and_wait_in_pip() as first, checkout.start("local.sh") as second:
        assert second.stderr.readline() == "Waiting for another set-up of .venv…\n"
        checkout.release.touch()
        assert [first.wait(timeout=60), second.wait(timeout=60)] == [0, 0]
        assert second.stderr.read() == ""
    assert checkout.calls.read_text().splitlines()[:4] == ["venv", *INSTALL_CORE]
    assert checkout.calls.read_text().splitlines()[4:] == [SWEEP, SWEEP]


ACCELERATOR = "run -m experiments.accelerator 5"


@pytest.mark.parametrize(
    ("driver", "extra"),
    [(None, "test"), ("590.1", "test,cuda,bench"), ("550.2", "test,cuda12,bench")],
)
def test_accelerator_installs_what_its_device_needs(checkout, driver, extra):
    write_command(checkout.commands, "python3", "#!/bin/sh\nexit 1\n")
    says = f"echo {driver}" if driver else "exit 9"
    write_command(checkout.commands, "nvidia-smi", f"#!/bin/sh\n{says}\n")
    code, messages, calls = checkout.run("accelerator.sh", "5")
    assert code == 0, messages
    assert calls == ["venv", "pip pip", f"pip .[{extra}]", "import", ACCELERATOR]
    assert checkout.run("accelerator.sh", "5")[2] == [ACCELERATOR]
    # An environment of several extras serves who asks for one of them.
    assert "pip .[test]" not in checkout.run("test.sh")[2]


def test_accelerator_goes_on_without_pytorch(checkout):
    write_command(checkout.commands, "python3", "#!/bin/sh\nexit 1\n")
    write_command(checkout.commands, "nvidia-smi", "#!/bin/sh\necho 590.1\n")
    python = checkout.add_python("python3.12", "3.12.1", "/usr/lib/3.12")
    fails = 'if [[ -n ${PIP_FAILS:-} || "$*" == *bench* ]]'
    python.write_text(python.read_text().replace("if [[ -n ${PIP_FAILS:-} ]]", fails))
    code, messages, calls = checkout.run("accelerator.sh", "5")
    assert code == 0, messages
    assert "pip .[test,cuda,bench]" in calls
    assert calls[-3:] == ["pip .[test,cuda]", "import", ACCELERATOR]


def test_accelerator_installs_from_a_folder_of_wheels(checkout):
    write_command(checkout.commands, "python3", "#!/bin/sh\nexit 1\n")
    calls = checkout.run("accelerator.sh", "5", GROKJAX_WHEELS="wheels")[2]
    assert calls.count("from wheels") == 2
    assert calls[-1] == ACCELERATOR


def test_accelerator_uses_a_python_that_has_everything_as_it_is(checkout):
    checkout.add_python("python3", "3.12.1", "/usr/lib/3.12")
    code, messages, calls = checkout.run("accelerator.sh", "5")
    assert (code, calls) == (0, ["import", ACCELERATOR]), messages
    assert "Using python3 as it is." in messages
    assert not (checkout.root / ".venv").exists()


def test_accelerator_without_minutes_sets_nothing_up(checkout):
    code, messages, calls = checkout.run("accelerator.sh")
    assert (code, calls) == (2, [])
    assert "How many minutes?" in messages
