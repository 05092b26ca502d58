#!/usr/bin/env bash
# Runs one sweep on every worker of a Cloud TPU slice, which find each other by themselves:
#   TPU=my-slice ZONE=us-central2-b WORKDIR=/mnt/data/sweep bash launch/tpu/run_on_slice.sh [flags…]
# The workers share /mnt/data (NFS or Filestore) and hold this repository in ~/grokjax, set up with
#   python3 -m venv .venv && .venv/bin/pip install -c launch/constraints.txt -e '.[tpu]'
set -euo pipefail

# --- parameters ---
TPU=${TPU:?name of the slice}
ZONE=${ZONE:?its zone}
WORKDIR=${WORKDIR:?work directory that all workers see}
FLAGFILE=${FLAGFILE:-experiments/quick.flags}

printf -v flags '%q ' "--flagfile=$FLAGFILE" "--workdir=$WORKDIR" --shard=none --distributed=yes "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
  cd ~/grokjax && source launch/env.sh && exec .venv/bin/python -m grokjax.sweep $flags"
