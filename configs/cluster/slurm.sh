#!/bin/bash
# sbatch configs/cluster/slurm.sh configs/finetune/gpu.yaml runs/tuned --policy runs/base/model --critic runs/critic/model --corpus corpus
# A run that is stopped resumes exactly with the same command, so the job may be requeued and preempted.
#SBATCH --job-name=mgen
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
config=$1 out=$2
shift 2
command=$(basename "$(dirname "$config")") # configs/finetune/gpu.yaml: scripts/finetune.py
nodes=${SLURM_JOB_NUM_NODES:-1} gpus=${SLURM_GPUS_ON_NODE:-1}
main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes $nodes --nproc_per_node $gpus --rdzv_backend c10d --rdzv_endpoint $main:29500 \
  "scripts/$command.py" --config "$config" --out "$out" "$@"
