import pytest
import torch
from assertions import assert_near
from golden import golden, reference_vgg19
from reference_weights import deterministic_array
from toy_networks import stand_in_classifier
from toy_networks import stand_in_features as features

from core.methods.decisions import logit_margin, selected_score
from core.methods.guidance import (
    class_gradient,
    l1_gradient,
    l2_gradient,
    make_guidance,
    perceptual_gradient,
)

X_CLEAN = deterministic_array("gradients.x_t", (2, 3, 32, 32), 0.6)
Z = deterministic_array("gradients.z_t", (2, 3, 32, 32))
X = deterministic_array("gradients.x", (2, 3, 32, 32), 0.4).clamp(-1, 1)
CLASSIFIER = stand_in_classifier()
TARGET = torch.tensor([1, 0])
SIX = [deterministic_array(f"six.{name}", (6, 3, 8, 8), 0.5) for name in ("x", "x_clean", "z")]
SIX[0].clamp_(-1, 1)
SIX_TARGETS = torch.tensor([1, 0, 0, 1, 1, 0])


def three_classes(images):
    """Images (N, 3, 8, 8) -> logits (N, 3)."""
    return images.flatten(1) @ deterministic_array("three", (192, 3), 0.3)


# -- golden numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, use_logits", [("class_logits", True), ("class_logprob", False)])
def test_class_gradients_are_those_of_the_reference(name, use_logits):
    arrays, _ = golden("gradients")
    assert arrays["y"].tolist() == TARGET.tolist()
    gradient, logits = class_gradient(X_CLEAN, TARGET, CLASSIFIER, 8.0, use_logits)
    assert_near(gradient, arrays[name])
    assert torch.equal(logits, CLASSIFIER(X_CLEAN))


def test_distance_gradients_are_those_of_the_reference():
    arrays, _ = golden("gradients")
    assert_near(l1_gradient(Z, X, 0.05), arrays["l1"])
    assert_near(l1_gradient(Z, X, 0.05) + l2_gradient(Z, X, 0.02), arrays["l1_l2"])


def test_the_perceptual_gradient_is_that_of_the_reference():
    arrays, _ = golden("gradients")
    guidance = make_guidance(
        X, TARGET, CLASSIFIER, classifier_scale=0.0, l1_loss=0.05, l_perc=30.0, perceptual=reference_vgg19(5)
    )
    assert_near(guidance(Z, X_CLEAN, 0.8), arrays["l1_perceptual_layer5_c30_alpha0.8"])


# -- each term ---------------------------------------------------------------------------------------------


def test_the_score_of_a_binary_question_is_the_signed_logit_or_its_log_sigmoid():
    logits = torch.tensor([2.0, -1.0, 0.5, 40.0])
    targets = torch.tensor([1, 1, 0, 0])
    assert selected_score(logits, targets).tolist() == [2.0, -1.0, -0.5, -40.0]
    p = torch.stack([1 - logits.sigmoid(), logits.sigmoid()], dim=1)
    found = selected_score(logits, targets, use_logits=False)
    torch.testing.assert_close(found[:3], p.log().gather(1, targets[:, None])[:3, 0])
    assert found[3].item() == pytest.approx(-40)  # no overflow


def test_the_score_of_many_classes_is_the_targets_logit_or_its_log_softmax():
    logits, targets = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0]]), torch.tensor([1, 2])
    assert selected_score(logits, targets).tolist() == [2.0, 3.0]
    expected = torch.log(torch.stack([logits.softmax(1)[0, 1], logits.softmax(1)[1, 2]]))
    torch.testing.assert_close(selected_score(logits, targets, use_logits=False), expected)


def test_two_logits_follow_the_same_log_probability_as_their_difference():
    x_clean = SIX[1]

    def two_classes(images):
        return three_classes(images)[:, :2]

    def difference(images):
        return two_classes(images)[:, 1] - two_classes(images)[:, 0]

    binary, classes = (class_gradient(x_clean, SIX_TARGETS, c, 8.0, False)[0] for c in (difference, two_classes))
    assert_near(classes, binary)


@pytest.mark.parametrize("use_logits", [True, False])
def test_a_step_against_the_class_gradient_raises_the_targets_score(use_logits):
    x_clean = SIX[1]
    for classifier in (stand_in_classifier(8), three_classes):
        step = x_clean - 0.01 * class_gradient(x_clean, SIX_TARGETS, classifier, 1.0, use_logits)[0]
        before, after = (selected_score(classifier(i), SIX_TARGETS, use_logits) for i in (x_clean, step))
        assert (after > before).all()


def test_the_log_probability_gradient_is_the_logits_times_the_probability_of_failure():
    x_clean, classifier = SIX[1], stand_in_classifier(8)
    p_target = torch.sigmoid(selected_score(classifier(x_clean), SIX_TARGETS))
    by_logit, by_probability = (
        class_gradient(x_clean, SIX_TARGETS, classifier, 1.0, use_logits)[0] for use_logits in (True, False)
    )
    assert_near(by_probability, by_logit * (1 - p_target)[:, None, None, None])


def test_the_l1_gradient_is_the_sign_of_the_difference():
    z, x = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    torch.testing.assert_close(l1_gradient(z, x, 0.3), torch.tensor([0.3, 0.0, -0.3]))


def test_the_l2_gradient_is_a_unit_vector_at_each_pixel_and_zero_where_nothing_differs():
    z, x = SIX[2], SIX[0]
    z[0, :, 2, 3] = x[0, :, 2, 3]
    gradient = l2_gradient(z, x, 0.5)
    assert not gradient[0, :, 2, 3].any()
    norms = gradient.norm(dim=1)
    norms[0, 2, 3] = 0.5
    torch.testing.assert_close(norms, torch.full_like(norms, 0.5))
    assert_near(gradient * (z - x).norm(dim=1, keepdim=True), 0.5 * (z - x))
    assert not l2_gradient(x, x, 0.5).any()  # no NaN


def test_the_perceptual_gradient_vanishes_at_the_image_itself():
    x, x_clean, _ = SIX
    assert not perceptual_gradient(x, features(x), features, 30.0).any()
    step = x_clean - 0.1 * perceptual_gradient(x_clean, features(x), features, 1.0)
    before, after = ((features(i) - features(x)).square().flatten(1).mean(1) for i in (x_clean, step))
    assert (after < before).all()


# -- their sum ---------------------------------------------------------------------------------------------

OPTIONS = {"l1_loss": 0.05, "l2_loss": 0.02, "l_perc": 30.0, "perceptual": features}


def guide(rows=slice(None), classifier_scale=8.0, **options):
    """The guidance of some of the six images, evaluated."""
    x, x_clean, z = (each[rows] for each in SIX)
    guidance = make_guidance(
        x, SIX_TARGETS[rows], stand_in_classifier(8), classifier_scale=classifier_scale, **options
    )
    return guidance(z, x_clean, 0.8)


def test_only_what_looks_at_the_clean_estimate_is_divided_by_sqrt_abar():
    x, x_clean, z = SIX
    expected = class_gradient(x_clean, SIX_TARGETS, stand_in_classifier(8), 8.0)[0] / 0.8
    assert_near(guide(), expected)
    expected = expected + perceptual_gradient(x_clean, features(x), features, 30.0) / 0.8
    expected = expected + l1_gradient(z, x, 0.05) + l2_gradient(z, x, 0.02)
    assert_near(guide(**OPTIONS), expected)


@pytest.mark.parametrize("option", ["l1_loss", "l2_loss", "l_perc"])
def test_every_distance_has_an_effect_of_its_own(option):
    assert (guide(**OPTIONS) - guide(**OPTIONS | {option: 0.0})).abs().max() > 1e-3


def test_an_image_is_guided_alike_alone_and_in_a_batch():
    alone = torch.cat([guide(slice(i, i + 1), **OPTIONS) for i in range(6)])
    assert_near(guide(**OPTIONS), alone)


def test_every_image_may_have_its_own_scale():
    scales = torch.tensor([1.0, 8.0, 0.0, 10.0, 15.0, 2.5])
    alone = torch.cat([guide(slice(i, i + 1), scales[i].item(), **OPTIONS) for i in range(6)])
    assert_near(guide(classifier_scale=scales, **OPTIONS), alone)


def test_the_features_of_the_image_are_computed_once():
    seen = []

    def counted(images):
        seen.append(images)
        return features(images)

    x, x_clean, z = SIX
    options = OPTIONS | {"perceptual": counted}
    guidance = make_guidance(x, SIX_TARGETS, stand_in_classifier(8), classifier_scale=8.0, **options)
    for _ in range(3):
        guidance(z, x_clean, 0.8)
    assert sum(torch.equal(images.detach(), x) for images in seen) == 1 and len(seen) == 1 + 3


def test_an_unused_perceptual_network_is_never_called():
    guide(perceptual=lambda images: pytest.fail("called"))


def test_a_perceptual_weight_without_its_network_is_refused():
    with pytest.raises(ValueError, match="--l_perc"):
        guide(l_perc=30.0)


@torch.no_grad()
def test_gradients_are_found_where_grad_is_off_and_leave_no_trace():
    weights = torch.nn.Parameter(deterministic_array("w", (192,)))
    weights.grad = torch.full((192,), 7.0)
    x, x_clean, z = SIX
    guidance = make_guidance(
        x, SIX_TARGETS, lambda images: images.flatten(1) @ weights, classifier_scale=1.0, **OPTIONS
    )
    gradient = guidance(z, x_clean, 1.0)
    assert gradient.any() and not gradient.requires_grad
    assert not any(each.requires_grad for each in SIX) and x_clean.grad is None
    assert (weights.grad == 7).all() and not torch.is_grad_enabled()


# -- the parts ---------------------------------------------------------------------------------------------


def test_the_parts_are_the_class_and_the_distances_and_sum_to_the_whole():
    x, x_clean, z = SIX
    options = {"l1_loss": 0.05, "l2_loss": 0.02, "l_perc": 30.0, "perceptual": features}
    guidance = make_guidance(x, SIX_TARGETS, stand_in_classifier(8), classifier_scale=8.0, **options)
    no_class = make_guidance(x, SIX_TARGETS, stand_in_classifier(8), classifier_scale=0.0, **options)
    parts = guidance.parts(z, x_clean, 0.8)
    assert_near(parts.class_part, class_gradient(x_clean, SIX_TARGETS, stand_in_classifier(8), 8.0)[0] / 0.8)
    assert_near(parts.distance_part, no_class(z, x_clean, 0.8))
    assert_near(parts.total, guidance(z, x_clean, 0.8))
    assert not parts.margin.requires_grad


def test_the_margin_is_how_far_the_targets_logit_is_above_every_other():
    logits = torch.tensor([[5.0, 1.0, 3.0], [5.0, 1.0, 3.0], [0.0, 2.0, 2.0]])
    assert logit_margin(logits, torch.tensor([0, 1, 2])).tolist() == [2.0, -4.0, 0.0]
    assert logit_margin(torch.tensor([2.0, 2.0]), torch.tensor([1, 0])).tolist() == [2.0, -2.0]


@pytest.mark.parametrize("classifier", [stand_in_classifier(8), three_classes])
def test_the_parts_tell_the_margin_of_the_clean_estimate_in_one_look_at_it(classifier):
    x, x_clean, z = SIX
    looks = []

    def watched(images):
        looks.append(images)
        return classifier(images)

    parts = make_guidance(x, SIX_TARGETS, watched, classifier_scale=8.0, use_logits=False).parts(z, x_clean, 0.8)
    assert_near(parts.margin, logit_margin(classifier(x_clean), SIX_TARGETS))
    assert len(looks) == 1
