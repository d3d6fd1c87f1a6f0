#!/bin/bash
# qsub configs/cluster/sge.sh finetune --config configs/finetune/laptop.yaml --policy runs/base/model --critic runs/critic/model --corpus corpus --out runs/tuned
# One machine with several cores. The first word is the command: scripts/finetune.py, scripts/ablate.py, ... A run that
# is stopped resumes exactly with the same command, so -r y is safe.
#$ -N mgen
#$ -cwd
#$ -pe smp 8
#$ -l h_rt=04:00:00
#$ -r y
#$ -j y
set -euo pipefail
command=$1
shift
export OMP_NUM_THREADS=${NSLOTS:-1}
python "scripts/$command.py" "$@"
