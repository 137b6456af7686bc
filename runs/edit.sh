#!/usr/bin/env bash
# Masked editing (the paper's Table 2) from twenty examples: a LoRA adapter of the shipped model, and what it draws.
#
#   runs/edit.sh                            twenty edits of rendered scenes
#   runs/edit.sh mine/edits.jsonl train/mine [--steps N --rank N --full ...]
#
# OUT/lora is the adapter; OUT/samples has sheets of examples, drawn before the true picture. Call it again to go on.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-train/edit-data}
out=${2:-train/edit}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
export HF_HUB_OFFLINE=1
if [ $# = 0 ] && [ ! -e "$data" ]; then
    "$python" -m instruct_imagen.cli data build edit --source world --count 20 --out "$data"
fi
exec "$python" -m instruct_imagen.cli finetune "$data" --out "$out" --resume latest "${@:3}"
