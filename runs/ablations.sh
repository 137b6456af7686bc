#!/usr/bin/env bash
# Trains and evaluates the paper's baselines and ablations at equal budgets, then writes the report. Call it as often as
# it takes: it goes on where it stopped.
#
#   runs/ablations.sh [OUT] [PRESET] [MINUTES]      e.g. JOBS=2 runs/ablations.sh out/ablations micro 120
#
# micro is made for two CPU cores; nano or larger wants a GPU. OUT/report.html is the report; OUT/scores/METHOD holds
# what it was made from. MINUTES ends it after so long, to go on at the next call; without it all is done in one call. JOBS
# (1) runs are trained, and tasks evaluated, at the same time, which a GPU has room for, and cores that are quiet.
# METHODS="instruct multi_task" compares these alone for now.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/ablations}
preset=${2:-micro}
minutes=${3:-}
jobs=${JOBS:-1}
cores=$(nproc)
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
# Keep freed memory: a step otherwise spends a fifth of its time on pages that the last one gave back.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > jobs ? cores / jobs : 1))}
"$python" -m instruct_imagen.evaluation.ablations --out "$out" --preset "$preset" --jobs "$jobs" \
    ${minutes:+--minutes "$minutes"} ${METHODS:+--methods $METHODS}
if compgen -G "$out/scores/*/scores.json" >/dev/null; then
    "$python" -m instruct_imagen.evaluation.report "$out"
fi
