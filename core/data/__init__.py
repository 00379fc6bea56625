"""Reading data sets and image files; the only code that turns bytes into [-1, 1] and back."""
