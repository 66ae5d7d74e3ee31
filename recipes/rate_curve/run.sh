#!/usr/bin/env bash
# WER against bytes on the five test sets; goes on where it was interrupted. See README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
speech=${SPEECH:-../shared/speech}
systems=${SYSTEMS:-pcm,vqasr:1,vqasr:2,vqasr:3,vqasr:4,vqasr:8,vqasr:continuous}
for set in test_libri test_libri_other test_arctic_bdl test_nonnative test_alnum; do
  .venv/bin/vqasr evaluate --data "$speech/$set-00000-of-00001.parquet" \
    --systems "$systems" --asr tiny.en --out "runs/rate_curve/$set" --batch-size 16
done
.venv/bin/python recipes/rate_curve/plot.py runs/rate_curve --output docs/rate_curve.png
