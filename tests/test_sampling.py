import re
from functools import partial
from unittest.mock import MagicMock

import pytest
import torch
from assertions import assert_near
from golden import golden
from reference_weights import deterministic_array
from torch.utils._python_dispatch import TorchDispatchMode
from toy_networks import brightness_logit, filled, tiny_unet

from core.running.explainer import explain
from guided_diffusion import compile_util, sampling
from guided_diffusion.compile_util import capture_if_faster, compile_if_faster
from guided_diffusion.sampling import Overflow, SamplingNetwork
from guided_diffusion.script_util import create_gaussian_diffusion, create_model
from guided_diffusion.unet import ResBlock

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", learn_sigma=True)
X = deterministic_array("test_sampling.x", (3, 3, 8, 8))
CLASSES = {"class_cond": True, "num_classes": 5, "multiclass": False}
STEPS = DIFFUSION.model_timesteps(torch.tensor([11, 0, 5]))


def explained(network, **options):
    images = deterministic_array("test_sampling.images", (3, 3, 8, 8), 0.3).clamp(-1, 1)
    return explain(images, brightness_logit, DIFFUSION, network, tau=4, classifier_scales=(0.0, 1.0), **options)


# -- nothing twice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
def test_it_is_the_golden_network(channels_last):
    arrays, flags = golden("unet_tiny")
    diffusion = create_gaussian_diffusion(diffusion_steps=1000, learn_sigma=True)
    network = SamplingNetwork(filled(create_model(**flags)), diffusion, channels_last=channels_last)
    x = deterministic_array("unet.x", (2, 3, 32, 32), 0.5)
    assert_near(network(x, torch.from_numpy(arrays["t"])), arrays["output"])


@pytest.mark.parametrize("flags", [{}, {"timestep_respacing": "10,15"}, {"rescale_timesteps": True}])
def test_every_step_of_any_diffusion_finds_its_own_projection(flags):
    unet, diffusion = tiny_unet(), create_gaussian_diffusion(diffusion_steps=50, **flags)
    t = diffusion.model_timesteps(torch.arange(diffusion.num_timesteps).flip(0))
    x = X[:1].expand(len(t), -1, -1, -1)
    assert_near(SamplingNetwork(unet, diffusion)(x, t), unet(x, t))


def test_the_projections_of_a_step_are_made_once():
    unet, made = tiny_unet(learn_sigma=True), []
    blocks = [block for block in unet.modules() if isinstance(block, ResBlock)]
    for layer in [unet.time_embed, *(block.emb_layers for block in blocks)]:
        layer.register_forward_hook(lambda *_: made.append(1))
    explained(SamplingNetwork(unet, DIFFUSION))
    assert len(made) == 1 + len(blocks)


def test_labels_reach_a_class_conditional_network():
    unet = tiny_unet(**CLASSES)
    y = torch.tensor([0, 4, 2])
    network = SamplingNetwork(unet, DIFFUSION)
    assert_near(network(X, STEPS, y), unet(X, STEPS, y))
    with pytest.raises(ValueError, match="class_cond"):
        network(X, STEPS)


# -- a network without projections -----------------------------------------------------------------------------


class Whole(torch.nn.Module):
    """A network that shows its forward alone, as those of other libraries do."""

    def __init__(self, unet):
        super().__init__()
        self.network = unet

    def forward(self, z, t, y=None):
        return self.network(z, t, y)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("flags, labels", [({}, ()), (CLASSES, (torch.tensor([0, 4, 2]),))])
def test_a_network_without_projections_is_called_as_a_whole(channels_last, flags, labels):
    unet = tiny_unet(**flags)
    network = SamplingNetwork(Whole(unet), DIFFUSION, channels_last=channels_last)
    assert_near(network(X, STEPS, *labels), unet(X, STEPS, *labels))


def test_half_precision_does_not_round_the_timesteps_of_a_whole_network():
    timesteps, unet, t = [], tiny_unet(learn_sigma=True), torch.tensor([199, 197, 3])
    whole = Whole(unet)
    whole.register_forward_pre_hook(lambda _, inputs: timesteps.append(inputs[1]))
    network = SamplingNetwork(whole, DIFFUSION, dtype=torch.bfloat16)
    half, expected = network(X, t), unet(X, t)
    assert torch.equal(timesteps[0], t)
    assert half.dtype is torch.float32 and 1e-5 < (half - expected).std() / expected.std() < 0.03
    with network.full_precision():
        assert_near(network(X, t), expected)


def test_a_whole_network_is_tried_at_timesteps_that_are_whole_numbers(monkeypatch, capsys):
    dtypes = set()

    def network(z, t):
        dtypes.add(t.dtype)
        return z * t.reshape(-1, 1, 1, 1)

    monkeypatch.setattr(compile_util, "captured", lambda function, inputs: lambda *inputs: function(*inputs))
    capture_if_faster(network, (X, STEPS), True)
    assert dtypes == {torch.int64} and "failed" not in capsys.readouterr().out


# -- faster ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_it_answers_the_same_and_smaller_batches_are_not_compiled(monkeypatch, capsys, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    unet = tiny_unet(learn_sigma=True)
    network, expected = SamplingNetwork(unet, DIFFUSION, compile=True), unet(X, STEPS)
    assert_near(network(X, STEPS), expected)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert_near(network(X[:2], STEPS[:2]), expected[:2])
    assert_near(network(X, STEPS), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert re.search(r"--compile: \d+ s to warm up, .* a batch of 3", capsys.readouterr().out)


def doubled(x):
    return 2 * x


INPUTS = (torch.ones(2),)


def test_only_a_larger_batch_is_specialised_and_smaller_ones_compute_in_the_plain_torso(monkeypatch):
    unet, sizes, used = tiny_unet(learn_sigma=True), [], []

    def wrap(name, function, inputs, *choice):
        sizes.append(len(inputs[0]))

        def wrapped(*inputs):
            used.append(name)
            return function(*inputs)

        return wrapped

    monkeypatch.setattr(sampling, "compile_if_faster", partial(wrap, "compiled"))
    monkeypatch.setattr(sampling, "capture_if_faster", partial(wrap, "captured"))
    network = SamplingNetwork(unet, DIFFUSION, compile=True, cuda_graphs=True)
    for n, specialised in ((2, True), (1, False), (2, True), (3, True), (2, False), (1, False)):
        used.clear()
        assert_near(network(X[:n], STEPS[:n]), unet(X[:n], STEPS[:n]))
        assert used == (["captured", "compiled"] if specialised else [])
    assert sizes == [2, 2, 3, 3]


FAILURES = [(RuntimeError("no such kernel\nat all"), "(no such kernel)")]
FAILURES += [(lambda x, factor=factor: factor * x, "changes the answer") for factor in (3, float("nan"))]


@pytest.mark.parametrize("function, words", FAILURES)
def test_what_does_not_work_is_left_out_and_said(monkeypatch, function, words, capsys):
    monkeypatch.setattr(compile_util, "captured", MagicMock(side_effect=[function]))  # an error is raised
    assert capture_if_faster(doubled, INPUTS, True) is doubled
    out = capsys.readouterr().out
    assert out.startswith("--cuda_graphs failed") and words in out and out.count("\n") == 1


@pytest.mark.parametrize("choice", [True, "auto"])
def test_a_graph_that_replays_nothing_is_left_out_and_said(monkeypatch, capsys, choice):
    """As one is that was captured on another device than the current one: it keeps answering its first inputs."""

    for name in ("Stream", "current_stream", "stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    assert torch.equal(compile_util.captured(doubled, INPUTS)(*INPUTS), doubled(*INPUTS))  # by these nobody notices
    assert capture_if_faster(doubled, INPUTS, choice) is doubled
    assert "--cuda_graphs failed (it changes the answer)" in capsys.readouterr().out


def other_than_doubled(x):
    return x + x


@pytest.fixture
def trials(monkeypatch):
    """What is made instead of `doubled`, at a second a call, is other_than_doubled -> the mock that makes it."""
    made = MagicMock(return_value=other_than_doubled)
    monkeypatch.setattr(compile_util, "compiled", made)
    monkeypatch.setattr(compile_util, "captured", made)
    monkeypatch.setattr(compile_util, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(compile_util, "WORTH_TRYING", 100)
    return made


@pytest.mark.parametrize("seconds, used", [(0.1, True), (10.0, False)])
@pytest.mark.parametrize("make", [partial(compile_if_faster, calls=100), capture_if_faster])
def test_auto_keeps_what_is_measured_to_be_faster(monkeypatch, trials, capsys, seconds, used, make):
    monkeypatch.setattr(compile_util, "_seconds", lambda function, _: seconds if function is not doubled else 1.0)
    assert make(doubled, INPUTS, "auto") is (other_than_doubled if used else doubled)
    assert ("running without" in capsys.readouterr().out) is not used
    assert make(doubled, INPUTS, True) is other_than_doubled  # who asks for it has it
    assert "running without" not in capsys.readouterr().out


def test_nothing_is_tried_unasked_or_by_auto_where_too_little_is_to_come(trials):
    assert compile_if_faster(doubled, INPUTS, "auto", calls=99) is doubled
    assert compile_if_faster(doubled, INPUTS, False, calls=10**6) is doubled
    assert capture_if_faster(doubled, INPUTS, False) is doubled
    assert not trials.called


# -- half precision --------------------------------------------------------------------------------------------


def test_in_half_precision_it_is_near_and_the_weights_stay_as_they_are():
    unet = tiny_unet(learn_sigma=True)
    network = SamplingNetwork(unet, DIFFUSION, dtype=torch.bfloat16)
    expected, half = unet(X, STEPS), network(X, STEPS)
    assert half.dtype is torch.float32 and 1e-5 < (half - expected).std() / expected.std() < 0.03
    with network.full_precision():
        assert_near(network(X, STEPS), expected)
    assert torch.equal(network(X, STEPS), half)
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float32}


def overflowing():
    """A network whose activations float32 holds and float16 does not."""
    unet = tiny_unet(learn_sigma=True)
    with torch.no_grad():
        unet.input_blocks[0][0].weight *= 1e6
    return unet


def test_an_overflow_is_an_error_of_half_precision_alone():
    network = SamplingNetwork(overflowing(), DIFFUSION, dtype=torch.float16)
    with pytest.raises(Overflow, match="float16") as raised:
        network(X, STEPS)
    assert raised.value.network is network
    with network.full_precision():
        assert network(X, STEPS).isfinite().all()


class Looks(TorchDispatchMode):
    """Counts the numbers that are read off a tensor, for each of which a GPU would be waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


def test_an_overflow_is_looked_for_once_an_outer_step_and_at_the_end():
    looks = []
    for dtype in (torch.float32, torch.bfloat16):
        with Looks() as mode:
            explained(SamplingNetwork(tiny_unet(learn_sigma=True), DIFFUSION, dtype=dtype))
        looks.append(mode.count)
    # Of each of the two attempts: 4 outer steps, the counterfactual, the end. At each evaluation it would be 2 x 7.
    assert looks[1] - looks[0] == 2 * (4 + 1 + 1)


def test_a_batch_that_overflows_is_given_up_at_the_next_outer_step(capsys):
    network, dtypes = SamplingNetwork(overflowing(), DIFFUSION, dtype=torch.float16), []

    def counted(z, t):
        dtypes.append(network.dtype)
        return network(z, t)

    explained(counted)
    assert dtypes == 2 * ([torch.float16] + 7 * [torch.float32])


@pytest.mark.parametrize("method", ["dime", "fastdime2plus", "maskdime", "inversion", "dime of a whole network"])
def test_a_batch_that_overflows_is_computed_again_in_float32_and_this_is_said(method, capsys):
    unet = overflowing()
    method, _, whole = method.partition(" ")
    network = SamplingNetwork(Whole(unet) if whole else unet, DIFFUSION, dtype=torch.float16)
    result = explained(network, method=method)
    message = "the network overflowed in torch.float16; computing this batch again in float32"
    assert set(capsys.readouterr().out.splitlines()) == {message}
    expected = explained(unet, method=method)
    assert_near(result.counterfactual, expected.counterfactual)
    assert torch.equal(result.attempts, expected.attempts)
