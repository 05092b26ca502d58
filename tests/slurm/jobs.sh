#!/usr/bin/env bash
# The job scripts of launch/slurm on a real SLURM: an array of four shards, one of them requeued in
# the middle, against an unsharded sweep; one job of two processes; an analysis on dask.
#   sudo bash tests/slurm/cluster.sh bash tests/slurm/jobs.sh
# PYTHON names the interpreter, .venv's by default.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export PYTHON=${PYTHON:-$PWD/.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export FLAGFILE=$folder/tiny.flags
cat >"$FLAGFILE" <<FLAGS
--models=mlp
--d_model=16
--mlp_width=16
--mlp_depth=1
--batch_size=32
--primes=11
--train_fractions=0.5
--seeds=0:8
--steps=${STEPS:-20000}
--checkpoint_every=1000
--diagnostics=persistence
FLAGS
step() { printf '\n== %s\n' "$*"; }
submit() { WORKDIR=$1 sbatch --parsable --time=20 --cpus-per-task=1 --output="$folder/%x-%A_%a.log" "${@:2}"; }
settled() { until [[ -z $(squeue -h -j "$1" 2>/dev/null) ]]; do sleep 1; done; }
same() { "$PYTHON" tests/slurm/same_tables.py "$1" "$2"; }

# begun ARRAY TASK: returns when that shard has a checkpoint.
begun() { until compgen -G "$1/shard-00$2-of-004/checkpoints/*/params/1000" >/dev/null; do sleep 0.2; done; }

step 'array of 4 shards; once they have checkpoints task 1 is preempted by SIGTERM, task 2 requeued'
array=$(submit "$folder/array" --array=0-3 launch/slurm/array.sbatch)
begun "$folder/array" 1
scancel --batch --signal=TERM "${array}_1"
begun "$folder/array" 2
scontrol requeue "${array}_2"
settled "$array"
for task in 1 2; do
  log=$folder/grokjax-${array}_$task.log
  grep -h '^shard\|stopped\|resumed' "$log"
  [[ $(grep -c '^shard' "$log") == 2 ]] || { echo "shard $task was not started twice"; exit 1; }
done
grep -q 'stopped (SIGTERM)' "$folder/grokjax-${array}_1.log"
"$PYTHON" -m grokjax.merge "--workdir=$folder/array"

step 'the same grid as one job of 2 tasks'
coupled=$(submit "$folder/coupled" --nodes=1 --ntasks-per-node=2 launch/slurm/multi_node.sbatch)
settled "$coupled"
grep -h "^process\|joined" "$folder"/grokjax-"$coupled"_*.log
same "$folder/coupled" "$folder/array"

step 'unsharded, beside no scheduler'
"$PYTHON" -m grokjax.sweep "--flagfile=$FLAGFILE" "--workdir=$folder/whole" >"$folder/whole.log"
same "$folder/array" "$folder/whole"

step 'analysis on dask: 2 workers'
cp -r "$folder/whole" "$folder/away"
rm -rf "$folder/away/results/persistence.parquet"
dask=$(submit "$folder/away" --ntasks=2 launch/slurm/dask.sbatch)
settled "$dask"
tail -n 2 "$folder"/grokjax-analyze-"$dask"_*.log
same "$folder/away" "$folder/whole"
step 'all as it should be'
