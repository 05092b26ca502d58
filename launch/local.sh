#!/usr/bin/env bash
# Trains, measures and reports the quick sweep, after setting up .venv where that is needed:
#   bash launch/local.sh [flags of grokjax.sweep…]
# Relative paths in the flags start at the project's root.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

ensure_environment ''
cd -- "$project_root"
exec .venv/bin/python -m grokjax.sweep --flagfile=experiments/quick.flags "$@"
