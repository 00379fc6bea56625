"""The audit's words: what is said of what was found, of what was not, and of what could not be."""

from dataclasses import replace

import pytest

from core.audit.colours import ColourPlace
from core.audit.files import Findings
from core.audit.ranking import Ranked, name_used
from core.audit.verdict import MOST_LISTED, limits, verdict

FINDINGS = Findings(images=120, explained=120, asked="Smiling")
NOTHING = Ranked("Bald", 120, *[0.0] * 5, *[None] * 3, 0, None, 0.0, -0.02, 0.02, False)
ASKED = replace(NOTHING, attribute="Smiling", asked=True, changed=0.9, score=0.4)
EFFECT = {"effect": 0.3, "effect_low": 0.1, "effect_high": 0.5, "effect_n": 30}
USED = replace(NOTHING, attribute="Wearing_Hat", changed=0.25, score=0.08, by_change=True, **EFFECT)
SEEN = {"contrast": -0.2, "contrast_low": -0.3, "contrast_high": -0.1, "with_it": 40, "by_contrast": True}


def said(*rows, **others):
    return verdict(replace(FINDINGS, attributes=name_used([ASKED, *rows]), **others))


def test_an_attribute_is_named_with_the_evidence_that_there_is():
    uses = "Beside Smiling, the classifier uses Wearing Hat."
    hat = "Wearing Hat (by 0.30; 0.10 … 0.50; in 30 of 120 images)"
    back = f"Changing {hat} back alone lowers the probability of the target."
    assert said(USED) == f"{uses} {back}"
    contrast = "Smiling is less probable with Wearing Hat (by 0.20; 0.10 … 0.30) than without."
    both = said(replace(USED, **SEEN), contrasted=500)
    assert both == f"{uses} In 500 images as they are, {contrast} {back}"
    rows = [replace(NOTHING, **SEEN, named=True)]
    of_classes = verdict(replace(FINDINGS, attributes=rows, contrasted=500, asked=""))
    assert of_classes.startswith("The classifier uses Bald. In 500 images as they are, the target is less probable")


def test_the_strongest_is_named_first():
    little = SEEN | {"contrast": 0.06, "contrast_low": 0.01, "contrast_high": 0.1}
    text = said(replace(NOTHING, attribute="Male", **little), replace(USED, **SEEN), contrasted=500)
    assert "uses Wearing Hat and Male. " in text
    assert "is more probable with Male (by 0.06; 0.01 … 0.10) than" in text


def test_what_images_as_they_are_clear_is_not_named():
    cleared = replace(USED, contrast=0.04, contrast_low=-0.05, contrast_high=0.13, with_it=60)
    assert said(cleared, contrasted=900).startswith("No attribute beside Smiling was found to be used.")
    for unsure in (replace(cleared, contrast_high=0.16), replace(cleared, contrast=0.06)):
        assert "uses Wearing Hat" in said(unsure, contrasted=900)


def test_what_no_attribute_tells_is_said_first_where_no_attribute_is_named():
    corner = ColourPlace("top left corner", 0.016, (0, 0, 0.1, 0.1), 0.21, 0.0, True)
    everywhere = replace(corner, place="nearly everywhere", share=0.6)
    known = replace(corner, place="bottom", used=False)

    def told(*rows):
        return said(*rows, colours=[everywhere, corner, known], contrasted=500)

    where = (
        "uses what no attribute tells: in 500 images as they are, its answer goes with the colour nearly "
        "everywhere (60 % of the image; by 0.21) and of the top left corner (1.6 % of the image; by 0.21)."
    )
    assert told(NOTHING).startswith(f"The classifier {where} No attribute beside Smiling")
    assert told(USED).endswith(f"The classifier also {where}") and told(USED).startswith("Beside Smiling")


def test_where_nothing_was_found_it_says_how_little_would_have_been_seen():
    changed = replace(NOTHING, changed=0.1)
    assert "by less than 0.025 in the mean over all" in said(changed)  # 3 of 120 images
    assert "by less than 0.2 in the mean over all" in said(replace(changed, score=0.1, score_high=0.3))
    rows = [replace(NOTHING, contrast=0.0, contrast_low=-width, contrast_high=0.01) for width in (0.1, 0.2, 0.6)]
    text = said(*rows, contrasted=500)
    assert "the probability of Smiling does not differ by 0.05 or more, beyond chance, with and without any" in text
    assert "of 3 attributes; by less than 0.2 for half of them, by less than 0.6 for all." in text
    assert "would not have been seen" not in text
    nothing = "No attribute beside Smiling changed in 120 images, so nothing is known of what else is used."
    assert said(NOTHING) == nothing


def test_limits_are_told():
    controlled = replace(FINDINGS, control="other")

    def told(*rows, **others):
        return " ".join(limits(replace(controlled, attributes=[ASKED, *rows], **others)))

    assert "Nothing records how many images" in told(explained=None)
    assert "Of 121 images that were explained, 120 are looked at" in told(explained=121)
    assert "1 counterfactual is few" in told(images=1, explained=1)
    assert "There is no --control" in told(control=None)
    common = replace(USED, by_change=False, score_low=0.01, excess_low=-0.1)
    assert "about as often in the control: Wearing Hat." in told(common)
    many = [replace(NOTHING, attribute=f"a{k}") for k in range(20)]
    listed = ", ".join(f"a{k}" for k in range(MOST_LISTED - 1))
    assert f"so nothing is known of them: {listed} and {21 - MOST_LISTED} more." in told(*many)
    assert "all 2 attributes at once" in told(NOTHING) and "attributes at once" not in told()
    assert "not contrasted on images as they are: why." in told(NOTHING, no_contrasts="why")
    real = {"contrasted": 300, "contrasted_source": "test of data"}
    rare = "Not contrasted, being too rare or always with or without others: Smiling and Bald."
    assert rare in told(NOTHING, **real)
    seen = told(replace(NOTHING, **SEEN), **real)
    assert "As they are: 300 images, test of data." in seen and "go with" not in seen and "not why" in seen
    assert list(limits(replace(controlled, no_attributes="why"))) == ["No attributes were looked at: why."]


@pytest.mark.parametrize("n, words", [(1, "1 counterfactual is too few"), (9, "9 counterfactuals are too few")])
def test_of_few_images_nothing_is_said_but_by_contrasts(n, words):
    assert said(replace(USED, by_change=False), images=n).startswith(words)
    contrasted = said(replace(NOTHING, **SEEN), images=n, contrasted=500)
    assert contrasted.startswith("Beside Smiling, the classifier uses")
