#!/usr/bin/env bash
# Makes trained networks the shipped model: weights, positions, presets, validation logs, scores and card go into the
# package. The scores of the model shipped until now stay in the card as those before.
#
#   runs/ship.sh BASE [SECOND] [NAME]       e.g. runs/ship.sh train/nano train/nano-sr instruct-imagen-nano
#
# BASE and SECOND are folders of runs; SECOND may be "" for a base model alone. NOISE_LEVEL sets the default of sampling
# where it is to be another than the preset's, MEASURED names a super_resolution.json for the card. Refuses more than 64
# MiB.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?folder of the base model\'s run}
second=${2:-}
name=${3:-instruct-imagen-nano}
python=${PYTHON:-.venv/bin/python}
target=src/instruct_imagen/weights/$name
arguments=(--base "$base/pipeline" --out "$target")
[ -z "$second" ] || arguments+=(--super-resolution "$second/pipeline")
[ -z "${NOISE_LEVEL:-}" ] || arguments+=(--noise-level "$NOISE_LEVEL")
[ -z "${MEASURED:-}" ] || arguments+=(--measured "$MEASURED")
"$python" -m instruct_imagen.packaging package "${arguments[@]}"
"$python" -m instruct_imagen.cli evaluate --model "$name" --suite quick --out out/evaluation
cp out/evaluation/scores.json "$target/"
"$python" -m instruct_imagen.packaging card "$target"
