"""Statement embeddings: closed forms, what is learned, and that unknown statements leave no NaN behind."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgforge.errors import LabelError
from ecgforge.labels import LabelVocabulary, vocabulary
from ecgforge.models.conditioning import StatementEmbedding, StatementTables
from ecgforge.models.sssd import SssdConfig, SssdEcg

NAN = float("nan")
FEATURES = 6

each_variant = pytest.mark.parametrize("learn_present", [False, True], ids=["as released", "as described"])
each_size = pytest.mark.parametrize("labels", [1, 3])


def tables(labels: int, *, learn_present: bool = True) -> StatementTables:
    """Tables in double precision, the unknown rows away from their start."""
    torch.manual_seed(0)
    module = StatementTables(labels, FEATURES, learn_present=learn_present).double()
    torch.nn.init.normal_(module.unknown_shift)
    return module


def vectors(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --------------------------------------------------------------------------------------- original sum


def test_sum_of_statements_takes_unknown_for_absent() -> None:
    module = StatementEmbedding(3, FEATURES).double()
    first, second, _ = module.weight
    y = module(vectors([1, 0.25, 0], [1, 0.25, NAN], [NAN, NAN, NAN]))
    torch.testing.assert_close(y, torch.stack([first + second / 4, first + second / 4, torch.zeros_like(first)]))


# --------------------------------------------------------------------------------------------- tables


@each_variant
def test_one_statement_is_embedded_as_its_row(learn_present: bool) -> None:
    module = tables(1, learn_present=learn_present)
    assert module.mix is None
    y = module(vectors([0], [1], [0.25], [NAN]))
    absent, present, shift = module.absent[0], module.present[0], module.unknown_shift[0]
    assert torch.equal(y[0], absent) and torch.equal(y[1], present)
    torch.testing.assert_close(y[2], 0.75 * absent + 0.25 * present)
    torch.testing.assert_close(y[3], (absent + present) / 2 + shift)


@each_variant
def test_rows_of_several_statements_are_mixed_by_a_scalar_each(learn_present: bool) -> None:
    module = tables(3, learn_present=learn_present)
    unknown = (module.absent[2] + module.present[2]) / 2 + module.unknown_shift[2]
    scalars, bias = module.mix.weight[0], module.mix.bias
    wanted = scalars[0] * module.absent[0] + scalars[1] * module.present[1] + scalars[2] * unknown + bias
    torch.testing.assert_close(module(vectors([0, 1, NAN]))[0], wanted)


@each_variant
@each_size
def test_absent_present_and_unknown_are_three_things(labels: int, learn_present: bool) -> None:
    """Unlike the original sum, where absent is nothing and unknown is absent."""
    y = tables(labels, learn_present=learn_present)(torch.tensor([[0.0], [1.0], [NAN]]).double().expand(3, labels))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((y[one] - y[other]).norm().detach()) > 0.1


@each_variant
@each_size
def test_unknown_starts_as_grade_one_half(labels: int, learn_present: bool) -> None:
    module = StatementTables(labels, FEATURES, learn_present=learn_present)
    assert torch.equal(module(torch.full((1, labels), NAN)), module(torch.full((1, labels), 0.5)))


def test_released_code_keeps_present_at_zero_and_does_not_learn_it() -> None:
    released, described = (StatementTables(3, FEATURES, learn_present=learn) for learn in (False, True))
    assert released.state_dict().keys() == described.state_dict().keys()
    learned = {name for name, _ in described.named_parameters()}
    assert learned - {name for name, _ in released.named_parameters()} == {"present"}
    assert torch.count_nonzero(released.present) == 0
    assert torch.count_nonzero(described.present) == described.present.numel()
    released(torch.ones(1, 3)).sum().backward()
    assert torch.count_nonzero(released.absent.grad) == 0  # a statement that is present teaches its row nothing


@each_variant
@each_size
def test_gradients_with_unknown_statements(labels: int, learn_present: bool) -> None:
    module = tables(labels, learn_present=learn_present)
    condition = vectors([0.5] * labels, [NAN] * labels).requires_grad_()
    y = module(condition)
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    for name, value in module.named_parameters():
        assert torch.isfinite(value.grad).all() and torch.count_nonzero(value.grad) > 0, name
    assert torch.isfinite(condition.grad).all()
    assert torch.count_nonzero(condition.grad[0]) == labels and torch.count_nonzero(condition.grad[1]) == 0


def test_without_unknown_statements_their_rows_get_a_gradient_of_zero() -> None:
    """Zero, not none: data-parallel training waits for a gradient of every parameter."""
    module = tables(3)
    module(vectors([0, 1, 0.5])).sum().backward()
    assert module.unknown_shift.grad is not None and torch.count_nonzero(module.unknown_shift.grad) == 0


# -------------------------------------------------------------------------------------------- network


def network(**changes: Any) -> SssdEcg:
    torch.manual_seed(0)
    made = SssdEcg(
        SssdConfig(length=32, labels=4, layers=1, residual_channels=4, skip_channels=4, state_size=4, **changes)
    )
    torch.nn.init.normal_(made.output.weight)
    return made


def test_the_papers_embedding_is_the_default() -> None:
    assert SssdConfig().statements == "sum" and SssdConfig().kind == "sssd"
    assert isinstance(network().statements, StatementEmbedding)


@pytest.mark.parametrize("statements", ["nle-as-released", "nle-as-described"])
def test_network_tells_absent_from_unknown(statements: str) -> None:
    made = network(statements=statements)
    assert isinstance(made.statements, StatementTables)
    assert isinstance(made.statements.present, torch.nn.Parameter) == (statements == "nle-as-described")
    x, level = torch.randn(2, 8, 32), torch.tensor([3.0, 150.0])
    absent, unknown = torch.zeros(2, 4), torch.full((2, 4), NAN)
    y = made(x, level, unknown)
    assert torch.isfinite(y).all()
    assert float((y - made(x, level, absent)).norm().detach()) > 1e-3


def test_network_of_the_sum_does_not() -> None:
    made = network()
    x, level = torch.randn(2, 8, 32), torch.tensor([3.0, 150.0])
    partly = torch.tensor([[1.0, NAN, 0.0, NAN]] * 2)
    assert torch.equal(made(x, level, partly), made(x, level, partly.nan_to_num(0.0)))


# --------------------------------------------------------------------------------------- label vectors


def test_all_other_statements_can_be_unknown() -> None:
    labels = vocabulary("rhythm")
    vector = labels.encode({"AFIB": 1.0, "SR": 0.0, "PACE": 0.5}, others="unknown")
    assert vector.dtype == np.float32
    known = {label: float(grade) for label, grade in zip(labels.labels, vector, strict=True) if grade == grade}
    assert known == {"AFIB": 1.0, "SR": 0.0, "PACE": 0.5}
    assert np.isnan(vector).sum() == len(labels) - 3
    assert labels.decode(vector) == {"AFIB": 1.0, "PACE": 0.5}


def test_statements_alone_leave_the_others_absent() -> None:
    labels = LabelVocabulary(name="custom", labels=("PVC", "AFIB"))
    np.testing.assert_array_equal(labels.encode({"AFIB": 1.0, "PVC": 0.0}), [0.0, 1.0])
    np.testing.assert_array_equal(labels.encode({}, others="unknown"), [NAN, NAN])
    with pytest.raises(LabelError, match="got SR"):
        labels.encode({"SR": 1.0}, strict=True, others="unknown")


def test_an_absent_statement_does_not_make_its_class_absent() -> None:
    labels = vocabulary("superdiagnostic")
    vector = labels.encode({"IMI": 0.0, "LVH": 0.0, "CLBBB": 0.25, "CRBBB": 0.75}, others="unknown")
    np.testing.assert_array_equal(vector, [0.75, NAN, NAN, NAN, NAN])
    assert labels.decode(vector) == {"CD": 0.75}
