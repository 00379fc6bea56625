"""A report of experiments: pages to click through, made of the results folder alone."""
