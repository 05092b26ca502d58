# shellcheck shell=bash
# Finds a Python that really runs and keeps the project's environment, .venv. Sourced by the
# scripts beside it; needs bash and, to keep two starts apart, flock. Written for Linux.

project_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
supported_versions=(3.12 3.11 3.13 3.14) # the preferred ones, which giotto-ph is for, first

# A PYTHONHOME meant for another interpreter would break every one tried here.
unset PYTHONHOME

# Imported once after an install: shows that the packages work on this machine, and leaves their
# bytecode, which costs 18 s to make, even where PYTHONDONTWRITEBYTECODE is set.
core_modules=(absl.app flax.nnx jax matplotlib.pyplot optax orbax.checkpoint pandas
  plotly.graph_objects pyarrow.parquet redzed_tda rich.progress ripser scipy.stats)
test_modules=(gudhi hypothesis pytest skdim sklearn.neighbors)

# Prints version, executable and base prefix, or ends with the reason why the Python will not do.
# Arguments: the supported versions as one word, then modules that it must have. The executable is
# the one below any virtual environment, so it outlives a removed .venv. Valid in Python 2 too.
python_probe='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if "%d.%d" % sys.version_info[:2] not in sys.argv[1].split():
    sys.exit("is Python " + version)
if sys.implementation.name != "cpython":
    sys.exit("is " + sys.implementation.name + ", not CPython")
for module in sys.argv[2:]:
    try:
        __import__(module)
    except ImportError:
        sys.exit("is Python " + version + " without the module " + module)
print("\t".join(["python", version, sys._base_executable or sys.executable, sys.base_prefix]))
'

say() { printf '%s\n' "$*" >&2; }

# probe_python EXECUTABLE VERSIONS MODULE...: prints "version<TAB>executable<TAB>base prefix";
# where the Python does not do, returns 1 and prints why instead.
probe_python() {
  local executable=$1 output
  shift
  if output=$("$executable" -c "$python_probe" "$@" 2>&1 </dev/null) &&
    [[ $output =~ (^|$'\n')python$'\t'([^$'\n']+) ]]; then
    printf '%s\n' "${BASH_REMATCH[2]}"
  else
    output=${output%%$'\n'*}
    printf '%s\n' "${output:-does not run}"
    return 1
  fi
}

# find_python VERSION...: the same line for the first of the versions that any command on PATH
# offers, or for GROKJAX_PYTHON where that is set; says what was tried where there is none.
find_python() {
  local versions=$* name directory candidate answer fallback='' tried=''
  local -a names=() directories=()
  local -A seen=()
  if [[ -n ${GROKJAX_PYTHON:-} ]]; then
    candidate=$(command -v -- "$GROKJAX_PYTHON") || candidate=$GROKJAX_PYTHON
    if answer=$(probe_python "$candidate" "$versions" venv ensurepip); then
      printf '%s\n' "$answer"
      return
    fi
    say "GROKJAX_PYTHON=$GROKJAX_PYTHON will not do ($answer);" \
      "it must be CPython ${versions// / or } with venv and ensurepip."
    return 1
  fi
  for name in "$@"; do names+=("python$name"); done
  IFS=: read -ra directories <<<"$PATH"
  for name in "${names[@]}" python3 python; do
    for directory in "${directories[@]}"; do
      candidate=$directory/$name
      [[ -n $directory && -f $candidate && -x $candidate && -z ${seen[$candidate]:-} ]] || continue
      seen[$candidate]=yes
      if ! answer=$(probe_python "$candidate" "$versions" venv ensurepip); then
        tried+="  $candidate: $answer"$'\n'
      elif [[ $answer == "$1".* ]]; then
        printf '%s\n' "$answer"
        return
      else
        fallback=${fallback:-$answer}
      fi
    done
  done
  if [[ -n $fallback ]]; then
    printf '%s\n' "$fallback"
    return
  fi
  say "No Python that will do: CPython ${versions// / or } with venv and ensurepip is needed."
  if [[ -n $tried ]]; then
    say "Tried:"
    say "${tried%$'\n'}"
  else
    say "There is no ${names[*]}, python3 or python on PATH."
  fi
  say "Install one (on Debian its -venv package too) or name one: GROKJAX_PYTHON=/path/to/python"
  return 1
}

# ready_python: prints the name of a Python that has all packages: GROKJAX_PYTHON, or python3.
ready_python() {
  local candidate=${GROKJAX_PYTHON:-python3}
  probe_python "$candidate" "${supported_versions[*]}" "${core_modules[@]}" >/dev/null &&
    printf '%s\n' "$candidate"
}

# .venv/grokjax.state holds three lines: the project's root, the extra, and the digest of what was
# asked for, or "installing" as long as that is not complete.
write_state() { printf '%s\n' "$project_root" "$@" >.venv/grokjax.state; }

requirements_digest() { cat pyproject.toml launch/constraints.txt | sha256sum | cut -d' ' -f1; }

# environment_fault: prints why .venv has to be made anew, nothing where it can stay.
environment_fault() {
  local answer wanted
  local -a state=()
  [[ -e .venv ]] || return 0
  if [[ -f .venv/grokjax.state ]]; then
    mapfile -t state <.venv/grokjax.state
    if [[ ${state[0]:-} != "$project_root" ]]; then
      printf 'it was made in another place\n'
      return
    elif [[ ${state[2]:-installing} == installing ]]; then
      printf 'its installation did not finish\n'
      return
    fi
  fi
  if ! answer=$(probe_python .venv/bin/python "${supported_versions[*]}" pip); then
    printf 'its Python %s\n' "$answer"
  elif [[ -n ${GROKJAX_PYTHON:-} ]]; then
    wanted=$(find_python "${supported_versions[@]}") || return
    [[ ${answer%%$'\t'*}${answer##*$'\t'} == "${wanted%%$'\t'*}${wanted##*$'\t'}" ]] ||
      printf 'GROKJAX_PYTHON names another Python\n'
  fi
}

# make_environment: .venv with the Python that find_python chooses, and no packages.
make_environment() {
  local answer version python
  answer=$(find_python "${supported_versions[@]}") || return
  IFS=$'\t' read -r version python _ <<<"$answer"
  say "Setting up .venv with Python $version (once; a minute or two)…"
  # Moved aside first, so that no half-removed environment is ever taken for a whole one.
  rm -rf .venv.old
  [[ ! -e .venv && ! -L .venv ]] || mv .venv .venv.old
  rm -rf .venv.old
  mkdir .venv
  write_state '' installing
  "$python" -m venv .venv
}

# install_project EXTRA: what the extra asks for, at the versions of the constraints. Their pip
# comes first: it takes half the time of those that Python brings along.
install_project() {
  local extra=$1 modules=("${core_modules[@]}")
  local python=(.venv/bin/python -I)
  local install=("${python[@]}" -m pip install --no-input --no-compile --progress-bar=off
    --disable-pip-version-check -c launch/constraints.txt)
  # A folder of wheels in place of the network.
  [[ -z ${GROKJAX_WHEELS:-} ]] || install+=(--no-index --find-links="$GROKJAX_WHEELS")
  [[ ,$extra, != *,test,* ]] || modules+=("${test_modules[@]}")
  "${install[@]}" pip &&
    "${install[@]}" -e ".${extra:+[$extra]}" &&
    "${python[@]}" -c 'import sys; [__import__(module) for module in sys.argv[1:]]' "${modules[@]}"
}

# ensure_environment EXTRA: makes, completes or reuses .venv, with the extra where it is not empty;
# fast where nothing is to be done.
ensure_environment() (
  set -euo pipefail
  extra=$1
  cd -- "$project_root" || exit
  exec 9>>.venv.lock
  if command -v flock >/dev/null && ! flock -n 9; then
    say 'Waiting for another set-up of .venv…'
    flock 9
  fi
  digest=$(requirements_digest)
  fault=$(environment_fault)
  state=()
  [[ ! -f .venv/grokjax.state ]] || mapfile -t state <.venv/grokjax.state
  if [[ -n $fault ]]; then
    say "Replacing .venv: $fault."
    make_environment
  elif [[ ! -e .venv ]]; then
    make_environment
  elif [[ ${state[2]:-} == "$digest" && (-z $extra || ,${state[1]}, == *",$extra,"*) ]]; then
    return
  else
    say 'Completing .venv…'
  fi
  write_state "$extra" installing
  if ! install_project "$extra" >.venv/install.log 2>&1; then
    say 'The installation failed; .venv/install.log ends:'
    tail -n 20 .venv/install.log >&2
    return 1
  fi
  write_state "$extra" "$digest"
)
