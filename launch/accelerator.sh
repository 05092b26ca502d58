#!/usr/bin/env bash
# Asks a borrowed GPU or TPU all that experiments/accelerator.py is about, in so many minutes, and
# leaves small files in one folder; without an accelerator it rehearses that on the CPU:
#   bash launch/accelerator.sh MINUTES [flags of experiments.accelerator…]
# A Python that has all packages already is used as it is: GROKJAX_PYTHON, or where there is no
# .venv, python3. Else .venv is set up, also without network: GROKJAX_WHEELS=FOLDER, see README.md.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

# accelerator_extra: prints the extra that the machine's accelerator needs, nothing without one.
accelerator_extra() {
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null) || driver=''
  if [[ $driver =~ ^[0-9]+ ]]; then
    # CUDA 13 is for drivers from 580 on.
    if ((BASH_REMATCH[0] < 580)); then printf 'cuda12\n'; else printf 'cuda\n'; fi
  elif compgen -G '/dev/accel*' >/dev/null; then
    printf 'tpu\n'
  fi
}

if (($# == 0)); then
  say 'How many minutes? bash launch/accelerator.sh MINUTES'
  exit 2
fi
cd -- "$project_root"
if [[ (-n ${GROKJAX_PYTHON:-} || ! -e .venv) ]] && chosen=$(ready_python); then
  say "Using $chosen as it is."
  # Where grokjax itself is not installed, what it says of itself is read from here.
  "$chosen" -c 'import importlib.metadata; importlib.metadata.version("grokjax")' 2>/dev/null ||
    "$chosen" -c 'import setuptools; setuptools.setup()' -q egg_info
else
  chosen=.venv/bin/python
  accelerator=$(accelerator_extra)
  extras=test${accelerator:+,$accelerator}
  # PyTorch is compared with on a GPU, and gigabytes: without it the rest goes on.
  if [[ $accelerator != cuda* ]] || ! ensure_environment "$extras,bench"; then
    ensure_environment "$extras"
  fi
fi
source launch/env.sh
exec "$chosen" -m experiments.accelerator "$@"
