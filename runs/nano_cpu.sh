#!/usr/bin/env bash
# Trains the shipped model on two CPU cores: pre-training, stage 1, stage 2. Call it as often as it takes; it resumes.
#
#   runs/nano_cpu.sh MINUTES [OUT]          e.g. runs/nano_cpu.sh 170 train/nano
#
# OUT/pipeline is the newest averaged model in bfloat16; `runs/ship.sh OUT NAME` makes it the shipped one.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?minutes to train}
out=${2:-train/nano}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
exec "$python" -m instruct_imagen.cli train --preset nano --out "$out" --minutes "$minutes" --resume latest
