#!/usr/bin/env bash
# Simulate, cut the stamps, and train on one GPU, in one command of less than MINUTES minutes; then go on from there.
#
# usage: OUT=DIR bash benchmarks/gpu_train.sh [CARRIED]
#
# Everything is kept in WORK, which may be lost. What must not be lost is copied to OUT when the time is up: the
# exported model (half precision), training.json, the log and the last checkpoint (in parts of 15 MB). Given such a
# folder as CARRIED, the run goes on from its checkpoint: fields and stamps are made again, to the same bytes.
# Where only a few files of 16 MiB come back, a checkpoint of more than PARTS parts (that of `paper` has 110 MB) stays in
# WORK. Such a run must end in one go, or go on with `appulse train --init` from its model.
# Wheels for what the machine lacks may lie in .whl/ (GalSim, LSSTDESC.Coord, astropy, astropy-iers-data, pyerfa,
# photutils, sep, cyclopts, docstring-parser, rich-rst).
set -euo pipefail
out=${OUT:?set OUT to a directory for what is to be kept}
carried=${1:-}
work=${WORK:-/tmp/appulse}
name=${NAME:-gpu}
limit=$(( $(printf '%.0f' "$(awk "BEGIN { print ${MINUTES:-8.5} * 60 }")") ))
mkdir -p "$out" "$work"

if compgen -G ".whl/*.whl" > /dev/null; then
    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$work/site" .whl/*.whl
fi
export PYTHONPATH="$PWD/src:$work/site${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=Agg PYTHONUNBUFFERED=1
python=${PYTHON:-python3}

"$python" -m appulse simulate -o "$work/fields" --survey "${SURVEY:-paper}" --size "${SIZE:-16384}" \
    --fields "${FIELDS:-4}" --seed "${SEED:-0}"
echo "simulated after $SECONDS s"

run=$work/$name
resume=()
if [ -n "$carried" ] && [ ! -e "$carried/last.ckpt.00" ]; then
    echo "no checkpoint in $carried"
elif [ -n "$carried" ] && [ ! -e "$run/last.ckpt" ]; then
    mkdir -p "$run/log"
    cat "$carried"/last.ckpt.* > "$run/last.ckpt"
    cp "$carried/training.json" "$run/"
    mkdir -p "$run/log/leg_000"
    cp "$carried/metrics.csv" "$run/log/leg_000/" 2> /dev/null || true
fi
[ -e "$run/last.ckpt" ] && resume=(--resume)

# A run that is stopped loses what came after its last checkpoint: a minute at most.
status=0
timeout --signal=INT --kill-after=20 "$(( limit - 30 - SECONDS ))" "$python" -m appulse train -o "$run" \
    --fields "$work/fields" --preset "${PRESET:-paper}" "${resume[@]}" || status=$?
echo "trained until $SECONDS s (status $status; 124: stopped by the clock)"

[ -e "$run/last.ckpt" ] || { echo "no checkpoint yet: MINUTES is too short for SIZE and FIELDS"; exit 1; }
rm -f "$out"/last.ckpt.*
if [ "$(stat -c %s "$run/last.ckpt")" -le $(( ${PARTS:-3} * 15 * 1024 * 1024 )) ]; then
    split --bytes=15M --numeric-suffixes "$run/last.ckpt" "$out/last.ckpt."
else
    echo "the checkpoint is too large to be sent back and stays in $run"
fi
"$python" -c "
import json
import torch
from dataclasses import replace
from pathlib import Path
from appulse.network.weights import load_model, save_model
from appulse.training.config import TrainingConfig
from appulse.training.fit import export
from appulse.training.module import TrainingModule
from appulse.training.progress import update_curves
run, out = Path('$run'), Path('$out')
update_curves(run)
history = json.loads((run / 'training.json').read_text())
module = TrainingModule(TrainingConfig.from_dict(history['recipe']))
checkpoint = torch.load(run / 'last.ckpt', map_location='cpu', weights_only=True)
module.on_load_checkpoint(checkpoint)
module.load_state_dict(checkpoint['state_dict'])
whole = export(module, run / '$name.safetensors', history)
save_model(replace(load_model(whole), half=True), out / '$name.safetensors')
"
cp "$run/training.json" "$out/"
# A run of a few steps has logged nothing.
[ -e "$run/log/metrics.csv" ] && cp "$run/log/metrics.csv" "$out/"
echo "kept in $out after $SECONDS s"
