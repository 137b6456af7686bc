#!/usr/bin/env bash
# Adapts an imported backbone to instructions, by both stages of the paper (§3.2), on the GPUs of one machine. Call it as
# often as it takes; it resumes from OUT's newest checkpoint.
#
#   instruct-imagen import deepfloyd/IF-I-L-v1.0 --super-resolution deepfloyd/IF-II-L-v1.0 --out models/if-l
#   runs/adapt.sh models/if-l train/if-l [--data FILE --minutes M --set KEY=VALUE ...]
#
# GPUS (8) processes share weights, average and optimizer (FSDP2) and take 256 examples a step, MICRO_BATCH (8) at a time
# each, with activations computed twice instead of kept: docs/backbones.md has the memory that a model takes. Text
# encoder and VAE are whole in every process, in bfloat16.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:?folder of an imported model}
out=${2:?training folder}
gpus=${GPUS:-8}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || make setup
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
launch=()
parallel=()
if [ "$gpus" -gt 1 ]; then
    launch=(-m torch.distributed.run --standalone --nproc-per-node "$gpus")
    parallel=(--set execution.parallel=fsdp)
fi
exec "$python" "${launch[@]}" -m instruct_imagen.cli train --preset adapt --init "$model" --out "$out" --resume latest \
    "${parallel[@]}" --set execution.checkpoint_activations=true --set execution.micro_batch="${MICRO_BATCH:-8}" "${@:3}"
