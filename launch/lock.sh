#!/usr/bin/env bash
# Writes launch/constraints.txt anew: the newest versions that pyproject.toml allows, as pip
# resolves them in a fresh environment of each supported Python. Both must be on PATH:
#   PATH=/path/to/3.12/bin:/path/to/3.11/bin:$PATH bash launch/lock.sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

cd -- "$project_root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for version in 3.11 3.12; do
  answer=$(find_python "$version")
  IFS=$'\t' read -r full python _ <<<"$answer"
  say "Resolving for Python $full…"
  "$python" -m venv "$scratch/$version"
  pip=("$scratch/$version/bin/python" -I -m pip --disable-pip-version-check)
  "${pip[@]}" install -qq --no-compile --upgrade pip
  "${pip[@]}" install -qq --no-compile -e '.[test]'
  "${pip[@]}" freeze --all --exclude setuptools --exclude-editable >"$scratch/$version.txt"
done

"$python" - "$scratch/3.11.txt" "$scratch/3.12.txt" >"$scratch/constraints.txt" <<'PYTHON'
import re
import sys


def read_versions(path):
    pins = dict(line.strip().split("==") for line in open(path))
    return {re.sub(r"[-_.]+", "-", name).lower(): pin for name, pin in pins.items()}


older, newer = map(read_versions, sys.argv[1:])
print("# Exact versions of everything grokjax and its tests need, for pip's -c, on Linux with")
print("# CPython 3.11 or 3.12. Written by launch/lock.sh; not edited by hand.")
for name in sorted(older | newer):
    if older.get(name) == newer.get(name):
        print(f"{name}=={older[name]}")
        continue
    if name in older:
        print(f'{name}=={older[name]} ; python_version < "3.12"')
    if name in newer:
        print(f'{name}=={newer[name]} ; python_version >= "3.12"')
PYTHON
mv "$scratch/constraints.txt" launch/constraints.txt
say 'Wrote launch/constraints.txt.'
