#!/usr/bin/env bash
# A real SLURM of one node on loopback, from Debian's packages, for as long as a command runs:
#   apt-get install slurmctld slurmd slurm-client munge
#   sudo bash tests/slurm/cluster.sh bash tests/slurm/jobs.sh
# Needs root, because its daemons do. Everything lies in a folder of its own, removed at the end.
set -euo pipefail

folder=$(mktemp -d /tmp/grokjax-slurm.XXXXXX)
chmod 755 "$folder"
trap 'kill $(cat "$folder"/*.pid 2>/dev/null) 2>/dev/null || true; sleep 1; rm -rf "$folder"' EXIT

dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 600 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/seed"

cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
JobRequeue=1
# config_overrides: more CPUs than there are, so that small jobs run beside each other.
SchedulerParameters=bf_interval=5
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 State=UNKNOWN
PartitionName=all Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
mkdir "$folder/state" "$folder/spool"
export SLURM_CONF=$folder/slurm.conf
slurmctld -f "$SLURM_CONF" -c
slurmd -f "$SLURM_CONF" -c -N "$(hostname -s)" || { cat "$folder"/*.log >&2; exit 1; }
for _ in $(seq 60); do
  [[ $(sinfo -h -o %T 2>/dev/null) == idle ]] && break
  sleep 0.5
done
sinfo
"$@" || { code=$?; tail -n 20 "$folder"/slurm*.log >&2; exit "$code"; }
