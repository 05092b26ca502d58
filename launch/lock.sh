#!/usr/bin/env bash
# Writes launch/constraints.txt anew: the newest versions that pyproject.toml allows, with wheels,
# on each supported Python, as uv resolves them for all at once; none but one of them need be here.
#   bash launch/lock.sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

cd -- "$project_root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
answer=$(find_python "${supported_versions[@]}")
IFS=$'\t' read -r _ python _ <<<"$answer"
"$python" -m venv "$scratch/uv"
"$scratch/uv/bin/python" -I -m pip --disable-pip-version-check install -qq uv
# Their pip installs the rest.
echo pip >"$scratch/pip.in"
"$scratch/uv/bin/uv" pip compile --quiet --universal --python-version 3.11 --only-binary :all: \
  --extra test --no-header --no-annotate --output-file "$scratch/resolved.txt" \
  pyproject.toml "$scratch/pip.in"
{
  echo "# Exact versions of everything grokjax and its tests need, for pip's -c, on Linux with"
  echo "# CPython 3.11 to 3.14. Written by launch/lock.sh; not edited by hand."
  # What holds for every environment in question need not be said at each line.
  sed -E "s/ and implementation_name == 'cpython'.*$//; s/( and|;) python_full_version < '3\.15'$//; s/ $//" \
    "$scratch/resolved.txt"
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" launch/constraints.txt
say 'Wrote launch/constraints.txt.'
