#!/usr/bin/env bash
# Train the DDPM, one rank on each GPU in GPUS. Several ranks are started by mpiexec, or by torchrun where mpiexec,
# mpi4py or its library is missing. Started again with the same arguments, a training that was stopped goes on.
#
#     bash celeba-train.sh DATA_DIR OUTPUT_PATH [FLAG ...]
#
# GPUS (default: 0), MODEL_FLAGS and TRAIN_FLAGS may be set in the environment. The defaults are the paper's
# network for CelebA at 128 pixels. Further flags are passed on. Without a GPU the same number of ranks run on
# the CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: bash celeba-train.sh DATA_DIR OUTPUT_PATH [FLAG ...]; GPUS=0,1 starts two ranks" >&2
  exit 2
fi
data_dir="$1" output_path="$2"
shift 2

GPUS="${GPUS:-0}"
MODEL_FLAGS="${MODEL_FLAGS:---image_size 128 --attention_resolutions 32,16,8 --class_cond False --diffusion_steps 500
  --learn_sigma True --noise_schedule linear --num_channels 128 --num_heads 4 --num_res_blocks 2
  --resblock_updown True --use_fp16 True --use_scale_shift_norm True}"
TRAIN_FLAGS="${TRAIN_FLAGS:---batch_size 75 --lr 1e-4 --ema_rate 0.9999 --lr_anneal_steps 300000}"

# Whether mpiexec is there and mpi4py finds its library, which is not initialised for that.
mpi_works() {
  command -v mpiexec > /dev/null &&
    python -c 'import mpi4py; mpi4py.rc.initialize = False; import mpi4py.MPI' > /dev/null 2>&1
}

IFS=, read -ra gpus <<< "$GPUS"
ranks=${#gpus[@]}
if [ "$ranks" -eq 1 ]; then
  launch=(python)
elif mpi_works; then
  launch=(mpiexec -n "$ranks" python)
else
  echo "mpiexec with mpi4py does not work here: torchrun starts the $ranks ranks" >&2
  launch=(torchrun --nproc-per-node "$ranks")
fi

# The flags are words, so they are left unquoted.
exec "${launch[@]}" "$(dirname "$0")/celeba-train-diffusion.py" $TRAIN_FLAGS $MODEL_FLAGS \
  --data_dir "$data_dir" --output_path "$output_path" --gpus "$GPUS" "$@"
