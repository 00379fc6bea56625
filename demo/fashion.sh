#!/usr/bin/env bash
# Explain 32 photographs of Fashion-MNIST, and show them: sneakers to ankle boots, and back.
#
#     OUTPUT=runs EXP=deep bash demo/fashion.sh --start_step 30
#
# OUTPUT and EXP are the results' folder and the experiment; flags are main.py's.
# It starts afresh each time, as the weights and the images may be newer than the last; --overwrite False goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/flags.sh
output=${OUTPUT:-demo/output/fashion} exp=${EXP:-demo} data=demo/data/fashion
for_every_step "OUTPUT or EXP" "$@"

python -m demo.fashion --data_dir $data --classes Sneaker,Ankle_boot --train 0 --val 0 --test 32
python main.py $FASHION_FLAGS --timestep_respacing 50 --data_dir $data --split test --batch_size 16 \
  --model_path models/demo/fashion_ddpm.pt --classifier_path models/demo/fashion_classifier.pt \
  --query_label Ankle_boot --start_step 20 --classifier_scales 2,4,8,16 --l1_loss 0.05 \
  --output_path "$output" --exp_name "$exp" --overwrite True "$@"
python -m demo.sheet --output_path "$output" --exp_name "$exp" --no sneaker --yes "ankle boot" \
  --picture "$output/$exp.png"
