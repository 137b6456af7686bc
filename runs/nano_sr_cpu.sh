#!/usr/bin/env bash
# Trains the super-resolution of the shipped model, 32 to 128 pixels, on two CPU cores. Call it as often as it takes; it
# resumes from OUT's newest checkpoint, and where there is none goes on from the shipped super-resolution, if there is
# one.
#
#   runs/nano_sr_cpu.sh MINUTES [OUT] [BASE] [--set KEY=VALUE ...]   e.g. runs/nano_sr_cpu.sh 170 train/nano-sr
#
# BASE is a base model, by name or folder (instruct-imagen-nano), whose text encoder is used; the base may be trained on
# meanwhile, for its text encoder no longer changes. OUT/pipeline is the cascade of BASE and the newest average, in
# bfloat16; `runs/ship.sh BASE_RUN OUT` makes it the shipped one.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?minutes to train}
out=${2:-train/nano-sr}
base=${3:-instruct-imagen-nano}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
# Keep freed memory: a step otherwise spends a fifth of its time on pages that the last one gave back.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
shipped=src/instruct_imagen/weights/instruct-imagen-nano
init=()
[ $# -le 3 ] && [ -e "$shipped/super_resolution/training.json" ] && init=(--init instruct-imagen-nano)
exec "$python" -m instruct_imagen.cli train --preset nano-sr --set base="$base" --out "$out" --minutes "$minutes" \
    --resume latest "${init[@]}" "${@:4}"
