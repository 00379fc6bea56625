"""Explaining one batch of images: a file a method, each a sampler (chain.py) with options (options.py)."""
