#!/bin/bash
# qsub configs/cluster/sge.sh configs/finetune/laptop.yaml runs/tuned --policy runs/base/model --critic runs/critic/model --corpus corpus
# One machine with several cores. A run that is stopped resumes exactly with the same command, so -r y is safe.
#$ -N mgen
#$ -cwd
#$ -pe smp 8
#$ -l h_rt=04:00:00
#$ -r y
#$ -j y
set -euo pipefail
config=$1 out=$2
shift 2
command=$(basename "$(dirname "$config")") # configs/finetune/laptop.yaml: scripts/finetune.py
export OMP_NUM_THREADS=${NSLOTS:-1}
python "scripts/$command.py" --config "$config" --out "$out" "$@"
