#!/usr/bin/env bash
# Trains super-resolution twice for equally many steps, with and without reading the references, and measures both on
# masked edits and held-out subjects. Call it again after a break; both runs resume.
#
#   runs/nano_sr_compare.sh STEPS [OUT] [BASE]      e.g. runs/nano_sr_compare.sh 3000 train/nano-sr-compare
#
# Writes OUT/measured/super_resolution.json, which holds every figure with its interval, and a sheet for each task.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:?optimizer steps of each}
out=${2:-train/nano-sr-compare}
base=${3:-instruct-imagen-nano}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
export HF_HUB_OFFLINE=1
trap 'exit 130' INT TERM # an interrupted training ends well, with a checkpoint; what follows it must not begin
for places in none lowest; do
    PYTHON="$python" runs/nano_sr_cpu.sh 100000 "$out/$places" "$base" \
        --set model.context_places="$places" --set stages.0.steps="$steps" --set stages.0.decay_steps=$((steps / 5))
done
exec "$python" -m instruct_imagen.evaluation.super_resolution --out "$out/measured" --drawn \
    --model text="$out/none/pipeline" --model context="$out/lowest/pipeline" --noise-level 0 0.1 0.2 0.3
