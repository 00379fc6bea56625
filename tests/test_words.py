from core.data.words import counted, words


def test_one_is_singular_large_numbers_are_grouped_and_names_have_no_underscores():
    assert [counted(n) for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert counted(1, "smaller group") == "1 smaller group"
    assert words("High_Cheekbones") == "High Cheekbones"
