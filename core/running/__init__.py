"""Explaining many images: attempts, batches, and the run that fills a results folder."""
