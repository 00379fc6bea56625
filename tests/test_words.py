from core.data.words import counted, words


def test_one_is_singular_and_large_numbers_are_grouped():
    assert [counted(n) for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert counted(1, "smaller group") == "1 smaller group"


def test_a_name_is_read_without_underscores():
    assert words("High_Cheekbones") == "High Cheekbones"
