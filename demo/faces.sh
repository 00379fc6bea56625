#!/usr/bin/env bash
# Explain 32 drawn faces with the exact algorithm, show them, and compare them with the true counterfactuals.
#
# It starts afresh each time, as the weights and the images may be newer than the last; --overwrite False goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/flags.sh

python -m demo.faces --data_dir demo/data/faces --train 0 --val 0 --test 32
python main.py $FACES_FLAGS --timestep_respacing 50 \
  --data_dir demo/data/faces --split test --batch_size 16 \
  --model_path models/demo/faces_ddpm.pt --classifier_path models/demo/faces_classifier.pt \
  --oracle_path models/demo/faces_oracle.pt --query_label Smiling \
  --start_step 10 --classifier_scales 1,2,4,8 --l1_loss 0.05 \
  --output_path demo/output/faces --exp_name demo --overwrite True "$@"
python -m demo.sheet --output_path demo/output/faces --exp_name demo \
  --no "not smiling" --yes smiling --picture demo/output/faces.png
# What needs no download; compute_metrics.sh without --metrics says what the others need.
python -m demo.correlations --data_dir demo/data/faces
bash compute_metrics.sh demo/output/faces demo --metrics FR,MNAC,CD,COUT
python -m demo.truth --output_path demo/output/faces --exp_name demo --query_label Smiling \
  --picture demo/output/truth.png
