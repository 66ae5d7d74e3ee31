#!/usr/bin/env bash
# WER against bytes on the six test sets; an interrupted run continues. See README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
SPEECH=${SPEECH:-../shared/speech}
OUT=${OUT:-runs/wer_vs_bitrate}
SETS=${SETS:-test_libri test_libri_other test_cv test_nonnative test_arctic_bdl test_alnum}
OURS=vqasr:240bps,vqasr:260bps,vqasr:290bps,vqasr:310bps,vqasr:350bps,vqasr:420bps,vqasr:550bps,vqasr:4
DECODED=vqasr:290bps:audio,vqasr:550bps:audio,vqasr:4:audio
CLASSICAL=codec2:700C,codec2:1200,codec2:1300,codec2:1400,codec2:1600,codec2:2400,codec2:3200
CLASSICAL+=,amrnb:4750,amrnb:7400,amrnb:12200
CLASSICAL+=,opus:6000,opus:8000,opus:12000,opus:24000,opuswb:6000,opuswb:12000
CLASSICAL+=,mp3:16000,sbc:32000,g726:16000,g722,adpcm,mulaw
SYSTEMS=${SYSTEMS:-text,text:xz,pcm,$OURS,$DECODED,$CLASSICAL}
measure() {
  local data=()
  for set in "$@"; do data+=(--data "$SPEECH/$set-00000-of-00001.parquet"); done
  # With one data set the folder itself holds the results, with several a folder for each.
  local folder=$OUT
  [ $# -gt 1 ] || folder=$OUT/$1
  .venv/bin/vqasr evaluate "${data[@]}" --systems "$SYSTEMS" --asr "${ASR:-tiny.en}" --out "$folder" \
    --batch-size 16 --threads 1
}
export -f measure
export SPEECH OUT SYSTEMS
# One thread each and two sets at a time: on two cores that is faster than one set on both.
printf '%s\n' $SETS | xargs -P "${JOBS:-2}" -I SET bash -c 'measure SET'
set -- $SETS
[ $# -eq 1 ] || measure "$@" # all is measured: side by side, slices.md
.venv/bin/python recipes/wer_vs_bitrate/plot.py "$OUT" --output docs/rate_curve.png
[ $# -eq 1 ] || .venv/bin/python recipes/wer_vs_bitrate/plot.py "$OUT" --sets test_libri_other \
  --output docs/readme_curve.png
