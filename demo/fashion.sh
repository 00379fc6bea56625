#!/usr/bin/env bash
# Explain 32 photographs of Fashion-MNIST, and show them: what would make trousers a dress, and a dress none.
#
#     OUTPUT=runs EXP=shallow bash demo/fashion.sh --start_step 20
#
# OUTPUT and EXP are the results' folder and the experiment. Flags are passed on to main.py.
# Each run starts afresh, as weights and images may have changed since the last; --overwrite False goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/flags.sh
output=${OUTPUT:-demo/output/fashion} exp=${EXP:-demo} data=demo/data/fashion
for_every_step "OUTPUT or EXP" "output_path exp_name query_label" "$@"

python -m demo.fashion --data_dir $data --classes Trouser,Dress --train 0 --val 0 --test 32
python main.py $FASHION_RUN $FASHION_DIME --data_dir $data --query_label Dress \
  --output_path "$output" --exp_name "$exp" --overwrite True "$@"
python -m demo.sheet --output_path "$output" --exp_name "$exp" --no "no dress" --yes dress \
  --picture "$output/$exp.png"
