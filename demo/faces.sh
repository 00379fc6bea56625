#!/usr/bin/env bash
# Explain 32 drawn faces with the exact algorithm, show them, measure, and compare them with the true counterfactuals.
#
#     bash demo/faces.sh
#     OUTPUT=runs EXP=young QUERY=Young bash demo/faces.sh --classifier_scales 8,16,32
#
# OUTPUT, EXP and QUERY are the results' folder, the experiment and the attribute. Flags are passed on to main.py.
# Each run starts afresh, as weights and images may have changed since the last; --overwrite False goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/flags.sh
output=${OUTPUT:-demo/output/faces} exp=${EXP:-demo} query=${QUERY:-Smiling} data=demo/data/faces
name=$(tr 'A-Z_' 'a-z ' <<<"$query")
for_every_step "OUTPUT, EXP or QUERY" "output_path exp_name query_label" "$@"

python -m demo.faces --data_dir $data --train 0 --val 0 --test 32 --correlations 12000
python main.py $FACES_RUN $FACES_DIME --data_dir $data --query_label "$query" \
  --output_path "$output" --exp_name "$exp" --overwrite True "$@"
python -m demo.sheet --output_path "$output" --exp_name "$exp" --no "not $name" --yes "$name" \
  --picture "$output/$exp.png"
# The metrics that need no download; compute_metrics.sh without --metrics says what the others need.
bash compute_metrics.sh "$output" "$exp" --metrics FR,MNAC,CD,COUT
python -m demo.truth --output_path "$output" --exp_name "$exp" --query_label "$query" \
  --picture "$output/$exp-truth.png"
python report.py --output_path "$output" --exp_names "$exp"
