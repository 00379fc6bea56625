import guided_diffusion.script.guard  # noqa: F401
