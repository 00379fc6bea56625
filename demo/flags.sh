# The networks of the two demos; sourced by train.sh, faces.sh and fashion.sh.
COMMON_FLAGS="--num_channels 32 --num_res_blocks 1 --attention_resolutions 8 --num_heads 4 --resblock_updown True
  --use_scale_shift_norm True --learn_sigma True --diffusion_steps 500 --noise_schedule linear --use_fp16 True"
FACES_FLAGS="--image_size 64 --channel_mult 1,2,2,2 $COMMON_FLAGS"
FASHION_FLAGS="--image_size 32 --channel_mult 1,2,2 $COMMON_FLAGS"
