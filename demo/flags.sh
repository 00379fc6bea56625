# Sourced by the scripts beside it and by benchmarks.methods: the flags that the shipped networks are trained with,
# those that main.py explains with, DiME's settings for them, and a check.
COMMON_FLAGS="--num_channels 32 --num_res_blocks 1 --attention_resolutions 8 --num_heads 4 --resblock_updown True
  --use_scale_shift_norm True --norm_groups 8 --learn_sigma True --diffusion_steps 500 --noise_schedule linear
  --use_fp16 True"
FACES_FLAGS="--image_size 64 --channel_mult 1,2,2,2 $COMMON_FLAGS"
FASHION_FLAGS="--image_size 32 --channel_mult 1,2,2 $COMMON_FLAGS"

# main.py takes the networks' flags from the weight files.
COMMON_RUN="--timestep_respacing 50 --split test --batch_size 16 --use_fp16 True"
FACES_RUN="$COMMON_RUN --model_path models/demo/faces_ddpm.pt
  --classifier_path models/demo/faces_classifier.pt --oracle_path models/demo/faces_oracle.pt"
FASHION_RUN="$COMMON_RUN --model_path models/demo/fashion_ddpm.pt
  --classifier_path models/demo/fashion_classifier.pt --oracle_path models/demo/fashion_oracle.pt"
FACES_DIME="--start_step 10 --classifier_scales 4,8,16 --l1_loss 0.05"
FASHION_DIME="--start_step 31 --classifier_scales 0.5,1,2,4,8 --l1_loss 0.05"

# for_every_step NAMES "FLAG FLAG…" WORD...: refuses those flags among the words for main.py, as the demo's other steps
# need them as well. NAMES: the environment variables to set instead.
for_every_step() {
  local names=$1 refused=" $2 " word flag
  shift 2
  for word in "$@"; do
    flag=${word//-/_} flag=${flag%%=*}
    if [[ $word == --* && $refused == *" ${flag#__} "* ]]; then
      echo "$0: error: $word would reach main.py alone; every step takes $names from the environment" >&2
      exit 2
    fi
  done
}
