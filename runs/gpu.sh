#!/usr/bin/env bash
# Trains a preset on a GPU machine without a network, in chained calls of some minutes each.
#
#   runs/gpu.sh pack                        here: collect what the GPU machine lacks in gpu_wheels/ (wheels, font, names)
#   runs/gpu.sh train PRESET MINUTES OUT    there: train so long, resume from OUT, checkpoint at the end
#   runs/gpu.sh export OUT DESTINATION      there: copy the newest pipeline in files of at most 15 MiB
#   runs/gpu.sh join SOURCE DESTINATION     here: put such files together again
#
# Data is rendered by one worker process per core but two; everything else is the command that a CPU runs.
set -euo pipefail
cd "$(dirname "$0")/.."
verb=${1:?pack, train, export or join}
shift
python=${PYTHON:-python3}

case "$verb" in
pack)
    mkdir -p gpu_wheels
    "$python" -m pip download --quiet --no-deps --dest gpu_wheels -c constraints.txt diffusers opencv-python-headless
    font=$("$python" -c "from instruct_imagen.world import find_font; print(find_font() or '')")
    [ -z "$font" ] || cp "$font" gpu_wheels/
    cp /usr/share/unicode/cldr/common/annotations/en.xml gpu_wheels/ 2>/dev/null || true
    du -sh gpu_wheels
    ;;
train)
    preset=${1:?preset} minutes=${2:?minutes} out=${3:?output folder}
    "$python" -c "import diffusers, cv2" 2>/dev/null ||
        "$python" -m pip install --quiet --no-index --no-deps gpu_wheels/*.whl
    [ -e gpu_wheels/NotoColorEmoji.ttf ] && export INSTRUCT_IMAGEN_FONT="$PWD/gpu_wheels/NotoColorEmoji.ttf"
    if [ -e gpu_wheels/en.xml ] && [ ! -e /usr/share/unicode/cldr/common/annotations/en.xml ]; then
        mkdir -p /usr/share/unicode/cldr/common/annotations
        cp gpu_wheels/en.xml /usr/share/unicode/cldr/common/annotations/
    fi
    cores=$(nproc)
    workers=$((cores > 3 ? cores - 2 : 1))
    export HF_HUB_OFFLINE=1 PYTHONPATH=src OMP_NUM_THREADS=2
    exec "$python" -m instruct_imagen.cli train --preset "$preset" --out "$out" --minutes "$minutes" --resume latest \
        --set data_workers="$workers" --set pack=font
    ;;
export)
    source=${1:?training folder} destination=${2:?destination}
    mkdir -p "$destination"
    tar -C "$source" -cf - pipeline validation.jsonl preset.json | split -b 15M - "$destination/pipeline.tar."
    ls -l "$destination"
    ;;
join)
    source=${1:?folder with pipeline.tar.*} destination=${2:?destination}
    mkdir -p "$destination"
    cat "$source"/pipeline.tar.* | tar -C "$destination" -xf -
    ;;
*)
    echo "runs/gpu.sh: unknown verb '$verb'; use pack, train, export or join" >&2
    exit 2
    ;;
esac
