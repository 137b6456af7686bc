#!/usr/bin/env bash
# Trains on a GPU machine that has no network, in chained calls of some minutes each.
#
#   runs/gpu.sh pack [MODEL]                here: collect in gpu_pack/ what the GPU machine lacks: diffusers, the colour
#                                           font and Unicode's names, and the base network of MODEL to go on from
#   runs/gpu.sh train PRESET MINUTES OUT [ARGUMENT ...]
#                                           there: train so long, resume from OUT, checkpoint and export at the end;
#                                           --init gpu_pack/base and the like are handed on
#   runs/gpu.sh run ARGUMENT ...            there: python with these arguments, -m instruct_imagen.evaluation.ablations
#                                           for instance
#   runs/gpu.sh export DESTINATION OUT...   there: the newest networks of runs, packed, in files of at most 15 MiB
#   runs/gpu.sh join SOURCE DESTINATION     here: put such files together again, a folder for each run
#
# Data is rendered by WORKERS processes (as many as there are cores, but for two); everything else is the command that a
# CPU runs. Of a super-resolution only its own networks are exported: `instruct_imagen.packaging package` joins them to a
# base model.
set -euo pipefail
cd "$(dirname "$0")/.."
verb=${1:?pack, train, run, export or join}
shift
python=${PYTHON:-python3} # of the GPU machine
pack=gpu_pack

# Runs python with what the pack holds.
run() {
    (
        flock 9 # of several runs that start at once one installs
        [ -e "$pack/site" ] || "$python" -m pip install --quiet --no-index --no-deps --target "$pack/site" "$pack"/*.whl
    ) 9>"$pack/.lock"
    local names=/usr/share/unicode/cldr/common/annotations/en.xml
    [ -e "$names" ] || [ ! -e "$pack/en.xml" ] || { mkdir -p "${names%/*}" && cp "$pack/en.xml" "$names"; }
    [ -e "$pack/NotoColorEmoji.ttf" ] && export INSTRUCT_IMAGEN_FONT="$PWD/$pack/NotoColorEmoji.ttf"
    ulimit -n "$(ulimit -Hn)" # batches come from the workers as open files
    export HF_HUB_OFFLINE=1 PYTHONPATH=src:$pack/site OMP_NUM_THREADS=2
    exec "$python" "$@"
}

case "$verb" in
pack)
    model=${1:-src/instruct_imagen/weights/instruct-imagen-nano}
    python=${PYTHON:-.venv/bin/python}
    [ -x "$python" ] || make setup
    rm -rf "$pack"
    mkdir "$pack"
    "$python" -m pip download --quiet --no-deps --dest "$pack" -c constraints.txt diffusers
    font=$("$python" -c "from instruct_imagen.world import find_font; print(find_font() or '')")
    [ -z "$font" ] || cp "$font" "$pack/"
    cp /usr/share/unicode/cldr/common/annotations/en.xml "$pack/" 2>/dev/null || true
    "$python" -m instruct_imagen.packaging package --base "$model" --out "$pack/base"
    du -sh "$pack"
    ;;
train)
    preset=${1:?preset} minutes=${2:?minutes} out=${3:?output folder}
    cores=$(nproc)
    run -m instruct_imagen.cli train --preset "$preset" --out "$out" --minutes "$minutes" --resume latest \
        --set data_workers="${WORKERS:-$((cores > 3 ? cores - 2 : 1))}" --set pack=font "${@:4}"
    ;;
run)
    run "$@"
    ;;
export)
    destination=${1:?destination}
    shift
    mkdir -p "$destination"
    files=()
    for out in "${@:?folders of runs}"; do
        networks=pipeline
        [ -d "$out/pipeline/super_resolution" ] && networks=pipeline/super_resolution*
        for name in $networks validation.jsonl preset.json samples; do
            files+=("$out"/$name)
        done
    done
    # shellcheck disable=SC2068
    tar -chf - ${files[@]} | xz -T0 -1 | split -b 15M - "$destination/runs.tar.xz."
    ls -l "$destination"
    ;;
join)
    source=${1:?folder with runs.tar.xz.*} destination=${2:?destination}
    mkdir -p "$destination"
    cat "$source"/runs.tar.xz.* | xz -d | tar -C "$destination" -xf -
    ;;
*)
    echo "runs/gpu.sh: unknown verb '$verb'; use pack, train, run, export or join" >&2
    exit 2
    ;;
esac
