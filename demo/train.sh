#!/usr/bin/env bash
# Train the demos' networks from nothing, and write the weights that are shipped in models/demo/.
#
#     bash demo/train.sh DIR        DIR: where data, checkpoints and logs go
#
# A training that was stopped goes on. On 2 CPU cores that compute in bfloat16: about five hours in all.
#
# The pictures of the README and the documentation are of these weights. After benchmarks.methods --output_path DIR,
# the same with --set deep --query Eyeglasses into DIR/glasses, demo/faces.sh and demo/fashion.sh:
#
#     python -m demo.beside --output_path DIR/glasses --query_label Eyeglasses --exp_names dime inversion \
#       --titles DiME ours --rows 4 --colours 256 --picture docs/beside.png
#     python -m demo.beside --output_path DIR --exp_names dime inversion --titles DiME ours \
#       --rows 4 --picture docs/smiles.png
#     small="--rows 4 --tile 72 --colours 256"
#     python -m demo.sheet --output_path DIR --exp_name inversion $small \
#       --no "not smiling" --yes smiling --picture docs/inversion.png
#     python -m demo.sheet --output_path demo/output/faces --exp_name demo $small \
#       --no "not smiling" --yes smiling --picture docs/faces.png
#     python -m demo.sheet --output_path demo/output/fashion --exp_name demo $small \
#       --no "no dress" --yes dress --picture docs/fashion.png
set -euo pipefail
work="$(realpath -m "${1:?usage: bash demo/train.sh DIR}")"
cd "$(dirname "$0")/.."
. demo/flags.sh

# All checkpoints stay, for the loss curves of the card (models/demo/README.md).
diffusion="--lr 4e-4 --lr_warmup_steps 200 --batch_size 32 --ema_rate 0.999 --grad_clip 1 --keep_checkpoints 20"

python -m demo.faces --data_dir "$work/faces" --train 12000 --val 1000 --test 1000
# Three phases, each from the averaged weights of the one before. The first two had a group for each channel in the
# norms, and their samples strong tints (docs/training.md).
faces_ddpm() {
  python celeba-train-diffusion.py $FACES_FLAGS $diffusion --save_interval 600 --data_dir "$work/faces" \
    --output_path "$@"
}
faces_ddpm "$work/faces_ddpm_1" --norm_groups 32 --lr_anneal_steps 3000
faces_ddpm "$work/faces_ddpm_2" --norm_groups 32 --lr_anneal_steps 3600 \
  --resume_checkpoint "$work/faces_ddpm_1/ema_0.999_003000.pt"
python -m demo.card pack "$work/faces_ddpm_2/ema_0.999_003600.pt" --shipped "$work/faces_ddpm_2/regrouped.pt" \
  --norm_groups 8
faces_ddpm "$work/faces_ddpm" --lr_anneal_steps 5400 --seed 5 --resume_checkpoint "$work/faces_ddpm_2/regrouped.pt"

python -m demo.fashion --data_dir "$work/fashion" --classes T-shirt,Trouser,Pullover,Dress --train -1 --val -1 --test -1
python celeba-train-diffusion.py $FASHION_FLAGS $diffusion --lr_anneal_steps 6000 --save_interval 500 \
  --data_dir "$work/fashion" --output_path "$work/fashion_ddpm"

# classify DATA IMAGE_SIZE NETWORK ARCHITECTURE SEED: trains a network that judges, and ships it.
classify() {
  python celeba-train-classifier.py --architecture "$4" --image_size "$2" --seed "$5" --batch_size 64 --lr 2e-3 \
    --lr_warmup_steps 100 --lr_anneal_steps 2500 --save_interval 500 --data_dir "$work/$1" --output_path "$work/$1_$3"
  python -m demo.card pack "$work/$1_$3/best.pt" --shipped "models/demo/$1_$3.pt"
}
for data in "faces 64" "fashion 32"; do
  classify $data classifier small_cnn 1
  classify $data oracle shufflenet_v2_x1_0 2
  name=${data% *}
  newest="$(ls "$work/${name}_ddpm"/ema_*.pt | sort | tail -n 1)"
  python -m demo.card pack "$newest" --shipped "models/demo/${name}_ddpm.pt"
done
