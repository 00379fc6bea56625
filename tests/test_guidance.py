import pytest
import torch
from assertions import assert_near
from golden import golden, reference_vgg19
from reference_weights import deterministic_array
from toy_networks import stand_in_classifier
from toy_networks import stand_in_features as features

from core.methods.decisions import logit_margin, selected_score
from core.methods.guidance import class_gradient, l1_gradient, l2_gradient, make_guidance, perceptual_gradient

X, X_CLEAN, Z = (deterministic_array(f"six.{name}", (6, 3, 8, 8), 0.5) for name in ("x", "x_clean", "z"))
X.clamp_(-1, 1)
TARGETS = torch.tensor([1, 0, 0, 1, 1, 0])
CLASSIFIER = stand_in_classifier(8)
OPTIONS = {"l1_loss": 0.05, "l2_loss": 0.02, "l_perc": 30.0, "perceptual": features}


def three_classes(images):
    """Images (N, 3, 8, 8) -> logits (N, 3)."""
    return images.flatten(1) @ deterministic_array("three", (192, 3), 0.3)


# -- golden numbers ----------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_reference():
    arrays, _ = golden("gradients")
    x_clean = deterministic_array("gradients.x_t", (2, 3, 32, 32), 0.6)
    z = deterministic_array("gradients.z_t", (2, 3, 32, 32))
    x = deterministic_array("gradients.x", (2, 3, 32, 32), 0.4).clamp(-1, 1)
    target, classifier = torch.from_numpy(arrays["y"]), stand_in_classifier()
    assert target.tolist() == [1, 0]
    for name, use_logits in (("class_logits", True), ("class_logprob", False)):
        gradient, logits = class_gradient(x_clean, target, classifier, 8.0, use_logits)
        assert_near(gradient, arrays[name])
        assert torch.equal(logits, classifier(x_clean))
    assert_near(l1_gradient(z, x, 0.05), arrays["l1"])
    assert_near(l1_gradient(z, x, 0.05) + l2_gradient(z, x, 0.02), arrays["l1_l2"])
    options = {"l1_loss": 0.05, "l_perc": 30.0, "perceptual": reference_vgg19(5)}
    guidance = make_guidance(x, target, classifier, classifier_scale=0.0, **options)
    assert_near(guidance(z, x_clean, 0.8), arrays["l1_perceptual_layer5_c30_alpha0.8"])


# -- each term ---------------------------------------------------------------------------------------------


def test_the_score_of_a_binary_question_is_the_signed_logit_or_its_log_sigmoid():
    logits = torch.tensor([2.0, -1.0, 0.5, 40.0])
    targets = torch.tensor([1, 1, 0, 0])
    assert selected_score(logits, targets).tolist() == [2.0, -1.0, -0.5, -40.0]
    p = torch.stack([1 - logits.sigmoid(), logits.sigmoid()], dim=1)
    scores = selected_score(logits, targets, use_logits=False)
    torch.testing.assert_close(scores[:3], p.log().gather(1, targets[:, None])[:3, 0])
    assert scores[3].item() == pytest.approx(-40)  # no overflow


def test_the_score_of_many_classes_is_the_targets_logit_or_its_log_softmax():
    logits, targets = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0]]), torch.tensor([1, 2])
    assert selected_score(logits, targets).tolist() == [2.0, 3.0]
    expected = torch.log(torch.stack([logits.softmax(1)[0, 1], logits.softmax(1)[1, 2]]))
    torch.testing.assert_close(selected_score(logits, targets, use_logits=False), expected)


def test_two_logits_follow_the_same_log_probability_as_their_difference():
    def two_classes(images):
        return three_classes(images)[:, :2]

    def difference(images):
        return two_classes(images).diff()[:, 0]

    binary, classes = (class_gradient(X_CLEAN, TARGETS, c, 8.0, False)[0] for c in (difference, two_classes))
    assert_near(classes, binary)


@pytest.mark.parametrize("use_logits", [True, False])
@pytest.mark.parametrize("classifier", [CLASSIFIER, three_classes])
def test_a_step_against_the_class_gradient_raises_the_targets_score(use_logits, classifier):
    step = X_CLEAN - 0.01 * class_gradient(X_CLEAN, TARGETS, classifier, 1.0, use_logits)[0]
    before, after = (selected_score(classifier(images), TARGETS, use_logits) for images in (X_CLEAN, step))
    assert (after > before).all()


def test_the_log_probability_gradient_is_the_logits_times_the_probability_of_failure():
    p_target = torch.sigmoid(selected_score(CLASSIFIER(X_CLEAN), TARGETS))
    by_logit, by_probability = (class_gradient(X_CLEAN, TARGETS, CLASSIFIER, 1.0, use)[0] for use in (True, False))
    assert_near(by_probability, by_logit * (1 - p_target)[:, None, None, None])


def test_the_l1_gradient_is_the_sign_of_the_difference():
    z, x = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    torch.testing.assert_close(l1_gradient(z, x, 0.3), torch.tensor([0.3, 0.0, -0.3]))


def test_the_l2_gradient_is_a_unit_vector_at_each_pixel_and_zero_where_nothing_differs():
    z = Z.clone()
    z[0, :, 2, 3] = X[0, :, 2, 3]
    gradient = l2_gradient(z, X, 0.5)
    assert not gradient[0, :, 2, 3].any()
    norms = gradient.norm(dim=1)
    norms[0, 2, 3] = 0.5
    torch.testing.assert_close(norms, torch.full_like(norms, 0.5))
    assert_near(gradient * (z - X).norm(dim=1, keepdim=True), 0.5 * (z - X))
    assert not l2_gradient(X, X, 0.5).any()  # no NaN


def test_the_perceptual_gradient_vanishes_at_the_image_itself():
    assert not perceptual_gradient(X, features(X), features, 30.0).any()
    step = X_CLEAN - 0.1 * perceptual_gradient(X_CLEAN, features(X), features, 1.0)
    before, after = ((features(i) - features(X)).square().flatten(1).mean(1) for i in (X_CLEAN, step))
    assert (after < before).all()


# -- their sum ---------------------------------------------------------------------------------------------


def guidance_of(rows=slice(None), classifier=CLASSIFIER, classifier_scale=8.0, **options):
    return make_guidance(X[rows], TARGETS[rows], classifier, classifier_scale=classifier_scale, **options)


def guide(rows=slice(None), classifier_scale=8.0, **options):
    """The guidance of some of the six images, evaluated."""
    return guidance_of(rows, classifier_scale=classifier_scale, **options)(Z[rows], X_CLEAN[rows], 0.8)


def test_the_parts_sum_to_the_whole_and_what_looks_at_the_clean_estimate_is_divided_by_sqrt_abar():
    parts = guidance_of(**OPTIONS).parts(Z, X_CLEAN, 0.8)
    assert_near(parts.class_part, class_gradient(X_CLEAN, TARGETS, CLASSIFIER, 8.0)[0] / 0.8)
    distances = l1_gradient(Z, X, 0.05) + l2_gradient(Z, X, 0.02)
    assert_near(parts.distance_part, distances + perceptual_gradient(X_CLEAN, features(X), features, 30.0) / 0.8)
    assert_near(parts.distance_part, guide(classifier_scale=0.0, **OPTIONS))
    assert_near(parts.total, parts.class_part + parts.distance_part)
    assert_near(parts.total, guide(**OPTIONS))
    assert_near(parts.class_part, guide())
    assert not parts.margin.requires_grad


@pytest.mark.parametrize("option", ["l1_loss", "l2_loss", "l_perc"])
def test_every_distance_has_an_effect_of_its_own(option):
    assert (guide(**OPTIONS) - guide(**OPTIONS | {option: 0.0})).abs().max() > 1e-3


def test_an_image_is_guided_alike_alone_and_in_a_batch_where_every_image_may_have_its_own_scale():
    alone = torch.cat([guide(slice(i, i + 1), **OPTIONS) for i in range(6)])
    assert_near(guide(**OPTIONS), alone)
    scales = torch.tensor([1.0, 8.0, 0.0, 10.0, 15.0, 2.5])
    alone = torch.cat([guide(slice(i, i + 1), scales[i].item(), **OPTIONS) for i in range(6)])
    assert_near(guide(classifier_scale=scales, **OPTIONS), alone)


def test_the_features_of_the_image_are_computed_once_and_an_unused_network_is_never_called():
    batches = []

    def counted(images):
        batches.append(images.detach())
        return features(images)

    guide(perceptual=counted)
    assert not batches
    guidance = guidance_of(**OPTIONS | {"perceptual": counted})
    for _ in range(3):
        guidance(Z, X_CLEAN, 0.8)
    assert sum(torch.equal(images, X) for images in batches) == 1 and len(batches) == 1 + 3


def test_a_perceptual_weight_without_its_network_is_refused():
    with pytest.raises(ValueError, match="--l_perc"):
        guide(l_perc=30.0)


@torch.no_grad()
def test_gradients_are_found_where_grad_is_off_and_leave_no_trace():
    weights = torch.nn.Parameter(deterministic_array("w", (192,)))
    weights.grad = torch.full((192,), 7.0)
    gradient = guidance_of(classifier=lambda images: images.flatten(1) @ weights, **OPTIONS)(Z, X_CLEAN, 1.0)
    assert gradient.any() and not gradient.requires_grad
    assert not any(each.requires_grad for each in (X, X_CLEAN, Z)) and X_CLEAN.grad is None
    assert (weights.grad == 7).all() and not torch.is_grad_enabled()


def test_the_margin_is_how_far_the_targets_logit_is_above_every_other():
    logits = torch.tensor([[5.0, 1.0, 3.0], [5.0, 1.0, 3.0], [0.0, 2.0, 2.0]])
    assert logit_margin(logits, torch.tensor([0, 1, 2])).tolist() == [2.0, -4.0, 0.0]
    assert logit_margin(torch.tensor([2.0, 2.0]), torch.tensor([1, 0])).tolist() == [2.0, -2.0]


@pytest.mark.parametrize("classifier", [CLASSIFIER, three_classes])
def test_the_parts_tell_the_margin_of_the_clean_estimate_in_one_look_at_it(classifier):
    looks = []

    def watched(images):
        looks.append(images)
        return classifier(images)

    parts = guidance_of(classifier=watched, use_logits=False).parts(Z, X_CLEAN, 0.8)
    assert_near(parts.margin, logit_margin(classifier(X_CLEAN), TARGETS))
    assert len(looks) == 1
