#!/usr/bin/env bash
# Every metric of some experiments, as a table: compute_metrics.sh OUTPUT_PATH EXPNAME... [flags of compute_metrics.py]
set -euo pipefail
output_path=${1:-} names=()
shift || true
while [[ $# -gt 0 && $1 != -* ]]; do
  names+=("$1")
  shift
done
if [[ -z $output_path || $output_path == -* || ${#names[@]} == 0 ]]; then
  echo "usage: compute_metrics.sh OUTPUT_PATH EXPNAME... [flags of compute_metrics.py]" >&2
  exit 2
fi
exec python "$(dirname "$0")/compute_metrics.py" --output_path "$output_path" --exp_names "${names[@]}" "$@"
