"""What tests assert again and again: numbers that are near, contents that are identical, errors of one line."""

import pytest
import torch


def assert_near(actual, expected, tolerance=1e-5):
    """The largest difference is at most `tolerance` times the largest magnitude of `expected`."""
    actual, expected = (torch.as_tensor(each).detach().double() for each in (actual, expected))
    assert actual.shape == expected.shape
    largest = expected.abs().max()
    assert largest > 0, "nothing to be near to"
    difference = (actual - expected).abs().max() / largest
    assert difference <= tolerance, f"relative difference {difference:.2e}"


def assert_identical(one, other):
    one, other = _leaves(one), _leaves(other)
    assert one.keys() == other.keys() and len(one) > 0
    for path, value in one.items():
        same = torch.equal(value, other[path]) if isinstance(value, torch.Tensor) else value == other[path]
        assert same, path


def _leaves(contents, prefix=""):
    """A nested dict -> path -> value."""
    if not isinstance(contents, dict | list):
        return {prefix: contents}
    items = contents.items() if isinstance(contents, dict) else enumerate(contents)
    return {path: leaf for key, value in items for path, leaf in _leaves(value, f"{prefix}/{key}").items()}


def refusal(error, function, *arguments):
    """The message of the error that function(*arguments) must raise: one line."""
    with pytest.raises(error) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
