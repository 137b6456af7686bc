#!/usr/bin/env bash
# Masked editing (the paper's Table 2) as an adapter that comes with the shipped model: renders as many edits as the
# paper has, fine-tunes, measures the model without and with the adapter, and puts it into the model's folder and card.
#
#   runs/ship_edit.sh [OUT]             e.g. STEPS=3000 runs/ship_edit.sh train/ship-edit
#
# Call it again to go on where it was stopped, or for more STEPS. STEPS (1400) of 16 edits take an hour of one core, and
# measuring half an hour. The adapter brings its own guidance, 1.5, which suits edits. A new run goes on from the one
# that the model has, which an earlier base may have been adapted with.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-train/ship-edit}
steps=${STEPS:-1400}
guidance=1.5
model=src/instruct_imagen/weights/instruct-imagen-nano
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
# One thread: two of this size wait for each other. Keep freed memory: a step otherwise waits for its pages.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
cli=("$python" -m instruct_imagen.cli)
[ -e "$out/edits" ] || "${cli[@]}" data build edit --source world --count 9000 --out "$out/edits"
begin=(--rank 32)
[ ! -e "$model/lora/edit" ] || begin=(--lora "$model/lora/edit")
"${cli[@]}" finetune "$out/edits" --out "$out/run" --resume latest "${begin[@]}" --batch-size 16 --steps "$steps" \
    --set stages.0.noise_levels=1 --set "stages.0.decay_steps=$((steps / 14 * 3))"
[ -e "$out/before/scores.json" ] || "${cli[@]}" evaluate --suite editing --out "$out/before"
"${cli[@]}" evaluate --suite editing --lora "$out/run/lora" --guidance "$guidance" --out "$out/after"
"$python" -m instruct_imagen.packaging adapter "$out/run/lora" --model "$model" --name edit \
    --before "$out/before" --after "$out/after" --guidance "$guidance"
