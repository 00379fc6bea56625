"""The networks besides the diffusion model, the loader of every weight file, and the files users drop in."""
