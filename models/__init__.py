"""All networks except the diffusion model, the loaders of all weight files, and the files that users put here."""
