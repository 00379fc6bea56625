"""What the trainers need beyond the training loop of guided_diffusion."""
