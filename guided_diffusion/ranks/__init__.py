"""The ranks of a run: which of several processes this is, and what they tell each other."""
