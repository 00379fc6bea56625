"""What a classifier's decision hangs on, found in an experiment's counterfactuals."""
