# shellcheck shell=bash
# Settings of a machine that runs sweeps, sourced by the job scripts beside this file. What is set
# already wins. No XLA flag is here: none was measured to help these programs.

# The diagnostics run a thread a core; each of them must not start as many again in BLAS.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}

# A job's output is read while it runs.
export PYTHONUNBUFFERED=1
