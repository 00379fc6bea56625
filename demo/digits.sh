#!/usr/bin/env bash
# Explain 40 handwritten digits, and show them: what would make each the digit that it looks like second most?
# Before that, write scikit-learn's digits as a folder of images, and train on it a DDPM of diffusers, the classifier
# and an oracle. A training that was stopped goes on, and one that is done is not done again.
#
#     bash demo/digits.sh
#     OUTPUT=demo/output/nines bash demo/digits.sh --split val --query_label 4 --target_label 9
#
# OUTPUT and EXP are the results' folder and the experiment, DATA the folder of images and networks. DDPM_STEPS and
# CLASSIFIER_STEPS are the lengths of the trainings. Flags are passed on to main.py.
# The picture of docs/demo.md is that of the first command:
#
#     python -m demo.sheet --output_path demo/output/digits --exp_name demo --tile 64 --colours 64 --picture docs/digits.png
#
# Each run explains afresh, as weights and images may have changed since the last; --overwrite False goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/flags.sh
output=${OUTPUT:-demo/output/digits} exp=${EXP:-demo} data=${DATA:-demo/data/digits}
for_every_step "OUTPUT or EXP" "output_path exp_name" "$@"

classifier="--task classes --image_size 16 --random_flip False --batch_size 64 --lr 2e-3 --lr_warmup_steps 50
  --lr_anneal_steps ${CLASSIFIER_STEPS:-400} --save_interval 200"

python -m demo.digits --data_dir "$data/images"
python -m demo.digits_ddpm --lr_anneal_steps "${DDPM_STEPS:-1500}" --data_dir "$data/images" --output_path "$data/ddpm"
python celeba-train-classifier.py $classifier --architecture small_cnn \
  --data_dir "$data/images" --output_path "$data/classifier"
python celeba-train-classifier.py $classifier --architecture tiny_cnn --seed 1 \
  --data_dir "$data/images" --output_path "$data/oracle"
python main.py --model_path "$data/ddpm/pipeline" --classifier_path "$data/classifier/best.pt" \
  --oracle_path "$data/oracle/best.pt" --timestep_respacing 20 --start_step 15 --classifier_scales 5,8,12 \
  --l1_loss 0.05 --data_dir "$data/images" --split test --batch_size 40 \
  --output_path "$output" --exp_name "$exp" --overwrite True "$@"
python -m demo.sheet --output_path "$output" --exp_name "$exp" --picture "$output/$exp.png"
bash compute_metrics.sh "$output" "$exp" --metrics "FR,Oracle FR,bKL,L1,COUT"
