#!/bin/bash
# sbatch configs/cluster/slurm.sh finetune --config configs/finetune/gpu.yaml --policy runs/base/model --critic runs/critic/model --corpus corpus --out runs/tuned
# The first word is the command: scripts/finetune.py, scripts/pretrain.py, ... A run that is stopped resumes exactly with
# the same command, so the job may be requeued and preempted.
#SBATCH --job-name=mgen
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
command=$1
shift
nodes=${SLURM_JOB_NUM_NODES:-1} gpus=${SLURM_GPUS_ON_NODE:-1} cores=${SLURM_CPUS_PER_TASK:-1}
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a machine must not share it
export OMP_NUM_THREADS=$((cores > gpus ? cores / gpus : 1)) # every process judges all completions on its cores
srun --cpus-per-task="$cores" torchrun --nnodes "$nodes" --nproc_per_node "$gpus" \
  --rdzv_backend c10d --rdzv_endpoint "$host:$port" --rdzv_id "$SLURM_JOB_ID" "scripts/$command.py" "$@"
