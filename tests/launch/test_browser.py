"""What test.sh does about a missing Chromium: install it where it may, and never fail."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
BASH = shutil.which("bash")

# Notes how it was called; only an installation from what was downloaded leaves a browser.
FAKE_APT = """#!/bin/bash
echo "apt-get $*" >>"$CALLS"
case " $* " in
  *" update "*) exit "${UPDATE_FAILS:-0}" ;;
  *" --download-only "*) exit "${DOWNLOAD_FAILS:-0}" ;;
esac
for name in chromium chromedriver; do
  printf '#!/bin/sh\\n' >"${0%/*}/$name" && chmod +x "${0%/*}/$name"
done
"""

FAKE_SUDO = """#!/bin/bash
echo "sudo $1" >>"$CALLS"
[[ $1 == -n && -z ${SUDO_FAILS:-} ]] && shift && exec "$@"
"""

SKIPPED = "The tests of the page will be skipped, for there is no chromium with chromedriver: "


def write_command(directory, name, text):
    command = directory / name
    command.write_text(text)
    command.chmod(0o755)


@pytest.fixture
def commands(tmp_path):
    """All that is on PATH: apt-get and sudo, and no browser."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bash", "chmod", "env", "timeout", "true"):
        (directory / name).symlink_to(shutil.which(name))
    write_command(directory, "apt-get", FAKE_APT)
    write_command(directory, "sudo", FAKE_SUDO)
    (tmp_path / ".venv").mkdir()
    return directory


def ensure_browser(commands, user=0, **variables):
    """Exit code and messages of ensure_browser, and the calls of sudo and apt-get."""
    write_command(commands, "id", f"#!/bin/sh\necho {user}\n")
    calls = commands.with_name("calls")
    calls.write_text("")
    script = 'set -euo pipefail; source "$1/python.sh"; source "$1/browser.sh"; PATH=$2'
    done = subprocess.run(
        [BASH, "-c", f"{script}; ensure_browser; echo alive", "bash", LAUNCH, commands],
        cwd=commands.parent,
        env={"PATH": os.environ["PATH"], "CALLS": str(calls), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.endswith("alive\n"), done.stdout
    return done.stdout.removesuffix("alive\n"), calls.read_text().splitlines()


def test_a_browser_that_is_there_is_taken(commands):
    for name in ("chromium", "chromedriver"):
        write_command(commands, name, "#!/bin/sh\n")
    assert ensure_browser(commands) == ("", [])


@pytest.mark.parametrize("half", ["chromium", "chromedriver"])
def test_root_installs_what_is_missing_once(commands, half):
    write_command(commands, half, "#!/bin/sh\n")
    messages, calls = ensure_browser(commands)
    assert messages == "Installing Chromium for the tests of the page (once)…\n"
    assert [call.split()[0] for call in calls] == ["apt-get"] * 3
    assert calls[0].endswith(" update")
    install = "install {} --no-install-recommends chromium chromium-driver"
    assert calls[1].endswith(install.format("--download-only"))
    assert calls[2].endswith(install.format("--no-download"))
    assert ensure_browser(commands) == ("", [])


def test_others_install_by_sudo_if_it_asks_nothing(commands):
    _, calls = ensure_browser(commands, user=1000)
    apt = ["sudo", "apt-get"]
    assert [call.split()[0] for call in calls] == ["sudo", *apt, *apt, *apt]
    assert ensure_browser(commands, user=1000) == ("", [])


def test_without_the_right_to_install_tests_are_skipped(commands):
    messages, calls = ensure_browser(commands, user=1000, SUDO_FAILS="yes")
    assert messages == f"{SKIPPED}to install it takes root, or sudo without a password.\n"
    assert calls == ["sudo -n"]
    (commands / "sudo").unlink()
    assert ensure_browser(commands, user=1000) == (messages, [])


def test_without_apt_tests_are_skipped(commands):
    (commands / "apt-get").unlink()
    messages, _ = ensure_browser(commands)
    assert messages == f"{SKIPPED}there is no apt-get to install it.\n"


def test_without_a_network_tests_are_skipped(commands):
    messages, calls = ensure_browser(commands, UPDATE_FAILS="100", DOWNLOAD_FAILS="100")
    assert messages.endswith(f"{SKIPPED}apt-get did not install it, see .venv/browser.log.\n")
    assert len(calls) == 2  # nothing was unpacked


def test_old_lists_of_packages_will_do(commands):
    messages, _ = ensure_browser(commands, UPDATE_FAILS="100")
    assert SKIPPED not in messages
