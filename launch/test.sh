#!/usr/bin/env bash
# Runs lint, format check, type check and tests, after setting up .venv and, for the tests of the
# page, Debian's chromium where they are needed:
#   bash launch/test.sh [arguments of pytest…]
# All four run whatever the others find; the exit code is 1 where any of them failed.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
source "$(dirname -- "${BASH_SOURCE[0]}")/browser.sh"

# stage NAME MODULE ARGUMENT…: runs the module and notes its result and its seconds.
stage() {
  local name=$1 start=$SECONDS result=passed
  shift
  printf '== %s\n' "$name"
  .venv/bin/python -m "$@" || result=FAILED
  [[ $result == passed ]] || status=1
  summary+=("$(printf '%-7s %s, %d s' "$name" "$result" $((SECONDS - start)))")
}

ensure_environment test
cd -- "$project_root"
ensure_browser
status=0
summary=()
stage lint ruff check
stage format ruff format --check
stage types mypy
# Files go to three processes whole, for tests of one file share what they compiled, and in the order
# of tests/conftest.py. Three keep two cores busy, for tests wait for disks and programs.
stage tests pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
printf '== summary\n'
printf '%s\n' "${summary[@]}"
exit "$status"
