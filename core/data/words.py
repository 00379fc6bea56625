"""Names and numbers as a sentence has them."""


def words(name):
    """An attribute's name as it is read: High_Cheekbones as High Cheekbones."""
    return name.replace("_", " ")


def counted(n, noun="image"):
    """A number and what it is of: 1 image, 1,200 images."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
