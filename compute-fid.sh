#!/usr/bin/env bash
# FID, sFID and KID of an experiment: compute-fid.sh OUTPUT_PATH EXPNAME [flags of compute_FID.py]
set -euo pipefail
if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  echo "usage: compute-fid.sh OUTPUT_PATH EXPNAME [flags of compute_FID.py]" >&2
  exit 2
fi
exec python "$(dirname "$0")/compute_FID.py" --output_path "$1" --exp_name "$2" "${@:3}"
