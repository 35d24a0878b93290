"""Packed weights multiply as plain ones do, and only where they are meant to be."""

import pytest
import torch

from policies.engine import packed
from policies.engine.load import language_model
from policies.engine.packed import FEW, Matrix, pays
from policies.tiny import checkpoint


@pytest.mark.parametrize("rows", [1, FEW - 1, FEW, FEW + 1, 100])
@pytest.mark.parametrize("biased", [True, False])
def test_a_packed_product_is_right_to_rounding(rows, biased):
    torch.manual_seed(rows)
    weight, x = torch.randn(48, 80), torch.randn(rows, 80)
    bias = torch.randn(48) if biased else None
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    if not pays(torch.nn.Linear(2, 2)):
        pytest.skip("this build of torch has no oneDNN")
    with torch.inference_mode():
        found = Matrix(weight, bias, packed=True)(x)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_only_small_models_of_float32_are_packed(tmp_path, monkeypatch):
    linear = torch.nn.Linear(8, 8)
    assert not pays(torch.nn.Linear(8, 8).double()) and not pays(torch.nn.Linear(8, 8).bfloat16())
    monkeypatch.setattr(packed, "MOST", 8 * 8 * 4)
    assert not pays(linear), "the bias is too much"
    folder = checkpoint(tmp_path)
    assert language_model(folder, "float32", "cpu", native=False).head._packed is None
    monkeypatch.undo()
    if pays(linear):
        model = language_model(folder, "float32", "cpu", native=False)
        assert model.head._packed is not None
        assert language_model(folder, "float64", "cpu", native=False).head._packed is None
