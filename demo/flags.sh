# What train.sh, faces.sh and fashion.sh source: the networks of the two demos, and a check.
COMMON_FLAGS="--num_channels 32 --num_res_blocks 1 --attention_resolutions 8 --num_heads 4 --resblock_updown True
  --use_scale_shift_norm True --learn_sigma True --diffusion_steps 500 --noise_schedule linear --use_fp16 True"
FACES_FLAGS="--image_size 64 --channel_mult 1,2,2,2 $COMMON_FLAGS"
FASHION_FLAGS="--image_size 32 --channel_mult 1,2,2 $COMMON_FLAGS"

# for_every_step NAMES FLAG...: refuses the flags of main.py that the demo's other steps must know as well.
for_every_step() {
  local names=$1 flag
  shift
  for flag in "$@"; do
    case ${flag//-/_} in
      __output_path* | __exp_name* | __query_label*)
        echo "$0: error: $flag would reach main.py alone; every step takes $names from the environment" >&2
        exit 2
        ;;
    esac
  done
}
