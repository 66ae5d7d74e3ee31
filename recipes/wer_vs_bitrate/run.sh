#!/usr/bin/env bash
# WER against bytes on the five test sets; goes on where it was interrupted. See README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SPEECH=${SPEECH:-../shared/speech}
export SYSTEMS=${SYSTEMS:-pcm,vqasr:1,vqasr:2,vqasr:3,vqasr:4,vqasr:8,vqasr:continuous}
# One thread each and two sets at a time: on two cores that is faster than one set on both.
printf '%s\n' test_libri test_libri_other test_nonnative test_arctic_bdl test_alnum |
  xargs -P "${JOBS:-2}" -I SET sh -c '.venv/bin/vqasr evaluate \
    --data "$SPEECH/SET-00000-of-00001.parquet" --systems "$SYSTEMS" --asr tiny.en \
    --out runs/wer_vs_bitrate/SET --batch-size 16 --threads 1'
.venv/bin/python recipes/wer_vs_bitrate/plot.py runs/wer_vs_bitrate --output docs/rate_curve.png
