#!/usr/bin/env bash
# Train the demos' networks from nothing, and write the weights that are shipped in models/demo/.
#
#     bash demo/train.sh DIR        DIR: where data, checkpoints and logs go
#
# A training that was stopped goes on. On 2 CPU cores that compute in bfloat16: about five hours in all.
#
# The pictures of the README and the documentation are of these weights. After benchmarks.methods --output_path DIR,
# demo/faces.sh, also with --method inversion, and demo/fashion.sh:
#
#     python -m demo.beside --output_path DIR --exp_names dime inversion --titles DiME ours \
#       --rows 4 --picture docs/beside.png
#     small="--exp_name demo --rows 4 --tile 72 --colours 256"
#     python -m demo.sheet --output_path demo/output/faces $small \
#       --no "not smiling" --yes smiling --picture docs/faces.png
#     python -m demo.sheet --output_path demo/output/fashion $small \
#       --no sneaker --yes "ankle boot" --picture docs/fashion.png
set -euo pipefail
work="$(realpath -m "${1:?usage: bash demo/train.sh DIR}")"
cd "$(dirname "$0")/.."
. demo/flags.sh

diffusion="--lr 4e-4 --lr_warmup_steps 200 --batch_size 32 --ema_rate 0.999 --grad_clip 1
  --save_interval 500"
classifier="--batch_size 64 --lr 2e-3 --lr_warmup_steps 100 --save_interval 500"

python -m demo.faces --data_dir "$work/faces" --train 12000 --val 1000 --test 1000
# Three phases, each from the averaged weights of the one before. The first two had a group for each channel in the
# norms, and their samples strong tints (docs/training.md).
faces_ddpm() { python celeba-train-diffusion.py $FACES_FLAGS $diffusion --data_dir "$work/faces" --output_path "$@"; }
faces_ddpm "$work/faces_ddpm_1" --norm_groups 32 --lr_anneal_steps 3000
faces_ddpm "$work/faces_ddpm_2" --norm_groups 32 --lr_anneal_steps 3600 \
  --resume_checkpoint "$work/faces_ddpm_1/ema_0.999_003000.pt"
python -m demo.pack --trained "$work/faces_ddpm_2/ema_0.999_003600.pt" --shipped "$work/faces_ddpm_2/regrouped.pt" \
  --norm_groups 8
faces_ddpm "$work/faces_ddpm" --lr_anneal_steps 5400 --seed 5 --resume_checkpoint "$work/faces_ddpm_2/regrouped.pt"
python celeba-train-classifier.py $classifier --architecture small_cnn --seed 1 --lr_anneal_steps 2500 \
  --image_size 64 --data_dir "$work/faces" --output_path "$work/faces_classifier"
python celeba-train-classifier.py $classifier --architecture shufflenet_v2_x1_0 --seed 2 --lr_anneal_steps 2500 \
  --image_size 64 --data_dir "$work/faces" --output_path "$work/faces_oracle"

python -m demo.fashion --data_dir "$work/fashion" --classes T-shirt,Shirt,Sneaker,Ankle_boot --train -1 --val -1 --test -1
python celeba-train-diffusion.py $FASHION_FLAGS $diffusion --lr_anneal_steps 2500 \
  --data_dir "$work/fashion" --output_path "$work/fashion_ddpm_begun"
python celeba-train-diffusion.py $FASHION_FLAGS $diffusion --lr 3e-4 --lr_warmup_steps 100 --ema_rate 0.998 \
  --lr_anneal_steps 1500 --seed 3 \
  --resume_checkpoint "$work/fashion_ddpm_begun/ema_0.999_002500.pt" \
  --data_dir "$work/fashion" --output_path "$work/fashion_ddpm"
python celeba-train-classifier.py $classifier --architecture tiny_cnn --seed 1 --lr_anneal_steps 3000 \
  --image_size 32 --data_dir "$work/fashion" --output_path "$work/fashion_classifier"

for name in faces fashion; do
  newest="$(ls "$work/${name}_ddpm"/ema_*.pt | sort | tail -n 1)"
  python -m demo.pack --trained "$newest" --shipped models/demo/${name}_ddpm.pt
  python -m demo.pack --trained "$work/${name}_classifier/best.pt" --shipped models/demo/${name}_classifier.pt
done
python -m demo.pack --trained "$work/faces_oracle/best.pt" --shipped models/demo/faces_oracle.pt
