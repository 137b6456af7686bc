#!/usr/bin/env bash
# Makes a trained pipeline the shipped model: weights, position, preset, validation log and scores go into the package.
#
#   runs/ship.sh OUT [NAME]                 e.g. runs/ship.sh train/nano instruct-imagen-nano
#
# Refuses more than 40 MiB. Write the model card (README.md in the model's folder) from the scores printed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
source=${1:?training folder}
name=${2:-instruct-imagen-nano}
python=${PYTHON:-.venv/bin/python}
target=src/instruct_imagen/weights/$name
size=$(du -sm --apparent-size "$source/pipeline" | cut -f1)
[ "$size" -le 40 ] || { echo "runs/ship.sh: $source/pipeline takes $size MiB, more than 40" >&2; exit 2; }
card=$(mktemp)
cp "$target/README.md" "$card" 2>/dev/null || true
rm -rf "$target"
mkdir -p "$(dirname "$target")"
cp -r "$source/pipeline" "$target"
cp "$source/validation.jsonl" "$target/"
[ -s "$card" ] && cp "$card" "$target/README.md"
rm -f "$card"
"$python" -m instruct_imagen.cli evaluate --model "$name" --suite quick --out out/evaluation
cp out/evaluation/scores.json "$target/"
