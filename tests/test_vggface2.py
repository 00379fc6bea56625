import pickle

import numpy as np
import pytest
import torch
from assertions import refusal
from PIL import Image
from published_weights import published
from reference_weights import deterministic_array
from test_checkpoints import Payload
from test_oracles import caffe_resnet50

from guided_diffusion.script.errors import UserError
from models.vggface2 import FaceFeatures, load_vggface2, read_arrays

FACES = (deterministic_array("vggface2.faces", (3, 3, 224, 224), 60) + 128).clamp(0, 255)
ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, dtype=np.int64)}


@pytest.fixture(scope="module")
def state():
    return published("vggface2_resnet50_ft")


@pytest.fixture(scope="module")
def network(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "resnet50_ft.pkl"
    path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in state.items()}, protocol=2))
    return load_vggface2(path)


def by_caffes_names(state):
    """The weights under the names of Caffe's layers."""
    parts = {
        "conv1": "1x1_reduce",
        "bn1": "1x1_reduce_bn",
        "conv2": "3x3",
        "bn2": "3x3_bn",
        "conv3": "1x1_increase",
        "bn3": "1x1_increase_bn",
        "0": "1x1_proj",
        "1": "1x1_proj_bn",
    }
    renamed = {}
    for name, tensor in state.items():
        words = name.split(".")
        if words[0].startswith("layer"):
            block = f"conv{int(words[0][-1]) + 1}_{int(words[1]) + 1}"
            renamed[f"{block}_{parts[words[-2]]}.{words[-1]}"] = tensor
        elif words[0] != "fc":
            renamed[f"conv1_7x7_s2{'_bn' * (words[0] == 'bn1')}.{words[1]}"] = tensor
    return renamed


def test_features_are_those_of_a_caffe_resnet50_of_bgr_minus_the_mean(network, state):
    red, green, blue = FACES.unbind(1)
    inputs = torch.stack([blue - 91.4953, green - 103.8827, red - 131.0912], dim=1)
    features = network(FACES)
    assert features.shape == (3, 2048)
    torch.testing.assert_close(features, caffe_resnet50(inputs, by_caffes_names(state)), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_batch(network):
    alone = torch.cat([network(face[None]) for face in FACES])
    torch.testing.assert_close(network(FACES), alone, rtol=1e-4, atol=1e-4)


def test_bytes_are_taken_like_floats_and_nothing_is_trained(network):
    pixels = FACES.round().to(torch.uint8)
    assert torch.equal(network(pixels), network(pixels.float()))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("size, expected", [((64, 64), (224, 224)), ((50, 100), (224, 448))])
def test_faces_are_resized_as_pil_resizes(size, expected):
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize(expected[::-1], Image.Resampling.BILINEAR)
    found = FaceFeatures.pixels_of(pixels)
    assert found.dtype == torch.uint8 and found.shape == (3, *expected)
    assert torch.equal(found, torch.from_numpy(np.array(image)).permute(2, 0, 1))


# -- the pickle ----------------------------------------------------------------------------------------------


def assert_arrays(path):
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_any_protocol_are_read(tmp_path, protocol):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(ARRAYS, protocol))
    assert_arrays(path)


def test_arrays_that_python_2_wrote_are_read(tmp_path):
    """As its numpy pickled them: names of numpy.core, and the bytes of an array as a plain string."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def written(array):
        kind = {"f": b"f4", "i": b"i8"}[array.dtype.kind]
        shape = b"(" + b"".join(b"K" + bytes([n]) for n in array.shape) + b"t"
        dtype = b"cnumpy\ndtype\n(" + text(kind) + b"K\x00K\x01tR(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xff"
        dtype += b"J\xff\xff\xff\xffK\x00tb"
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
        return empty + b"(K\x01" + shape + dtype + b"\x89" + text(array.tobytes()) + b"tb"

    body = b"".join(text(name.encode()) + written(array) + b"s" for name, array in ARRAYS.items())
    path = tmp_path / "arrays.pkl"
    path.write_bytes(b"\x80\x02}" + body + b".")
    assert_arrays(path)


@pytest.mark.parametrize(
    "hidden",
    [lambda o: o, lambda o: {"a": o}, lambda o: {"a": np.array([o], dtype=object)}],
    ids=["bare", "in a dict", "in an array"],
)
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, hidden):
    path, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(hidden(Payload(trace))))
    message = refusal(UserError, load_vggface2, path)
    assert str(path) in message and "mkdir" in message and "code" in message
    assert not trace.exists()


OTHER_VALUES = ([1, 2], {"a": 1}, {"a": "text"}, {"a": np.array(["text"])}, {"a": [1.0]})


def test_other_plain_values_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "arrays.pkl"
    assert "does not exist" in refusal(UserError, load_vggface2, path)
    whole = pickle.dumps(ARRAYS)
    for content in (b"", whole[: len(whole) // 2], b"not a pickle", *map(pickle.dumps, OTHER_VALUES)):
        path.write_bytes(content)
        assert str(path) in refusal(UserError, load_vggface2, path)


def test_arrays_of_another_network_are_refused(tmp_path):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(ARRAYS))
    message = refusal(UserError, load_vggface2, path)
    assert "does not fit this VGGFace2 network" in message and "2 unexpected (a, b)" in message
