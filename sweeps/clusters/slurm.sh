#!/bin/bash
# A sweep on a Slurm cluster: a job that starts Ray on its machines and runs the sweep's command on the first. With the
# checkout, and in it README's environment (.venv), in a folder that all machines share; in that folder, once the lines
# marked "change" are yours:
#
#     . .venv/bin/activate
#     ray get-auth-token --generate                              once: a secret, in ~/.ray/auth_token
#     sbatch sweeps/clusters/slurm.sh yosinski data=cifar10 out=/shared/cifar10
#     raytransfer status /shared/cifar10                         how far it is; raytransfer-JOB.log is what it prints
#     scancel JOB                                                stop; the same sbatch goes on from there
#
# Two minutes before its time is up the job ends its sweep and is queued again. Where a machine fails, or the job has to
# make room for another one, Slurm does that itself. The sweep goes on from its store, so a job may be shorter than it.
#
# A job on one machine needs no such file: it starts a Ray of its own, with the cores and GPUs that the job was given:
#
#     sbatch --cpus-per-task=16 --gpus=1 --wrap ". .venv/bin/activate && raytransfer run yosinski data=cifar10"
#
# `out` has to be a folder that all machines share under the same path, or an object store, and so has a data set that
# is a folder or lies in `data_dir`. Where these machines have no way to the internet, download data sets beforehand.

# Change: how many machines, their GPUs (without any, leave that line out), the time, and what else your cluster wants to
# know, such as --partition and --account. Machines are taken whole, for two Rays on one would want the same ports.
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00

#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --job-name=raytransfer
#SBATCH --output=raytransfer-%j.log
#SBATCH --open-mode=append

set -eu
. .venv/bin/activate
# The token turns strangers away; nothing is encrypted. /tmp/ray may be another user's.
export RAY_AUTH_MODE=token RAY_TMPDIR=/tmp/ray-$UID RAY_USAGE_STATS_ENABLED=0
# Left to itself Ray would take an address of this machine that the others may not reach, and count a machine's cores in
# place of the job's.
head=$(srun --nodes=1 --ntasks=1 printenv SLURM_LAUNCH_NODE_IPADDR)
export RAY_ADDRESS=$head:6379
srun --cpu-bind=none bash -c '
    if [ "$SLURM_PROCID" = 0 ]; then
        role="--head --node-ip-address=${RAY_ADDRESS%:*} --port=${RAY_ADDRESS##*:} --include-dashboard=false"
    else
        until ray status > /dev/null 2>&1; do sleep 2; done
        role="--address=$RAY_ADDRESS"
    fi
    exec ray start $role --num-cpus="$SLURM_CPUS_ON_NODE" --block > /dev/null' &
rays=$!
until ray status > /dev/null 2>&1; do
    kill -0 $rays 2> /dev/null || { echo "Ray has not started" >&2; exit 1; }
    sleep 2
done

raytransfer run "$@" &
sweep=$!
again=
trap 'kill -TERM $sweep' TERM
trap 'again=yes; kill -TERM $sweep' USR1
while kill -0 $sweep 2> /dev/null; do wait $sweep || true; done # which a signal ends early
if [ $again ]; then scontrol requeue "$SLURM_JOB_ID"; fi
wait $sweep
