# shellcheck shell=bash
# Settings of a machine that runs sweeps, sourced by the job scripts beside this file. What is set
# already wins. No XLA flag is here: none was measured to help these programs.

# Compiled programs outlive the process: a requeued or resumed job starts without compiling.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/grokjax/xla}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-1}

# The diagnostics run a thread a core; each of them must not start as many again in BLAS.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}

# A job's output is read while it runs.
export PYTHONUNBUFFERED=1
