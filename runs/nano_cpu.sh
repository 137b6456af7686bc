#!/usr/bin/env bash
# Trains the shipped model on two CPU cores: pre-training, stage 1, stage 2. Call it as often as it takes; it resumes
# from OUT's newest checkpoint, and where there is none goes on from the shipped weights.
#
#   runs/nano_cpu.sh MINUTES [OUT] [OPTIONS]          e.g. runs/nano_cpu.sh 170 train/nano
#
# OPTIONS are those of `instruct-imagen train`, such as --data runs/two_references.json, a mixture with more subjects,
# and more of the one training task that has two references.
# OUT/pipeline is the newest averaged model in bfloat16; `runs/ship.sh OUT NAME` makes it the shipped one.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?minutes to train}
out=${2:-train/nano}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
# Keep freed memory: a step otherwise spends a fifth of its time on pages that the last one gave back.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
init=()
[ -e src/instruct_imagen/weights/instruct-imagen-nano/training.json ] && init=(--init instruct-imagen-nano)
exec "$python" -m instruct_imagen.cli train --preset nano --out "$out" --minutes "$minutes" --resume latest "${init[@]}" \
    "${@:3}"
