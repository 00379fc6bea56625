"""Explaining one batch of images: a file a method, each with the signature of dime_sample."""
