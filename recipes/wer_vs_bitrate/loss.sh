#!/usr/bin/env bash
# WER against lost chunks of 1 s on two test sets; an interrupted run continues. See README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SPEECH=${SPEECH:-../shared/speech} SYSTEMS=${SYSTEMS:-vqasr:4} LOSS=${LOSS:-0,1,5,10,20}
printf '%s\n' test_libri test_libri_other |
  xargs -P "${JOBS:-2}" -I SET sh -c '.venv/bin/vqasr evaluate \
    --data "$SPEECH/SET-00000-of-00001.parquet" --systems "$SYSTEMS" --asr tiny.en \
    --chunk-s 1 --chunk-loss "$LOSS" --out runs/chunk_loss/SET --batch-size 16 --threads 1'
