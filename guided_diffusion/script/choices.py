"""The values of flags that weight files and networks say, too."""

TASKS = ("attributes", "classes")  # what a classifier's outputs are: a yes or no each, or of which one is right
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")  # how images are resized
