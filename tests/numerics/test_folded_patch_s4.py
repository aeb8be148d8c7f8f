"""Folded PatchS4 is PatchS4: at all sizes, whatever it is told, record by record and in any thread."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ecgforge.errors import ConfigError
from ecgforge.models.folded import FoldedPatchS4, fold
from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config

TOLERANCE = 1e-6  # float32 rounding; wrong terms show at 1e-3 and more
SMALL = PatchS4Config(
    leads=3,
    length=48,
    labels=5,
    patch=4,
    features=32,
    layers=4,
    condition_features=8,
    state_size=4,
    attention_every=2,
    head=8,
)
SIZES = {
    "small": SMALL,
    "no attention": replace(SMALL, attention_every=0),
    "attention everywhere": replace(SMALL, attention_every=1, layers=2),
    "one head": replace(SMALL, head=32),
    "partial vectors": replace(SMALL, features=42, head=6, hidden=3),
    "patches of 1": replace(SMALL, patch=1, length=37),
    "10 s": replace(SMALL, leads=8, length=1000),
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def network(config: PatchS4Config, *, seed: int = 0) -> PatchS4:
    """Random weights, none of them zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = PatchS4(config).eval()
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return made


def inputs(config: PatchS4Config, *, batch: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config.leads, config.length, generator=generator)
    condition = torch.rand(batch, config.columns, generator=generator)
    condition[1, 2:] = torch.nan
    beats = (torch.rand(batch, config.length, generator=generator) < 0.1).float()
    beats[2] = torch.nan
    return x, torch.linspace(-1, 1, batch), condition, beats


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def folded(made: PatchS4, *, products: torch.dtype = torch.float32) -> FoldedPatchS4:
    """Skips where there are no native kernels."""
    kernels = native_kernels()
    if isinstance(kernels, Absent):
        pytest.skip(f"no native kernels: {kernels}")
    return FoldedPatchS4(made, kernels, products=products)


@pytest.mark.parametrize("name", ["small", "no attention", "partial vectors"])
def test_bfloat16_products_are_near(name: str) -> None:
    """Roundings of 2^-9 that do not pile up, and are there."""
    made, given_inputs = network(SIZES[name]), inputs(SIZES[name])
    y = folded(made, products=torch.bfloat16)(*given_inputs)
    assert y.dtype == torch.float32
    assert 1e-4 < distance(y, made(*given_inputs)) < 1e-2


@pytest.mark.parametrize("name", SIZES)
def test_folded_network_is_the_network(name: str) -> None:
    made, told = network(SIZES[name]), inputs(SIZES[name])
    evaluate = folded(made)
    assert distance(evaluate(*told), made(*told)) < TOLERANCE
    assert distance(evaluate(*told[:3]), made(*told[:3])) < TOLERANCE  # nothing known of the beats


def test_what_is_kept_belongs_to_what_was_told() -> None:
    """The same evaluator, told other levels, statements and beats from call to call."""
    made, (x, level, condition, beats) = network(SMALL), inputs(SMALL)
    evaluate = folded(made)
    for told in ((level, condition, beats), (level.flip(0), condition, beats), (level, condition.flip(0), beats)):
        assert distance(evaluate(x, *told), made(x, *told)) < TOLERANCE
    assert distance(evaluate(x, level, condition, beats.flip(0)), made(x, level, condition, beats.flip(0))) < TOLERANCE


def test_record_is_bitwise_the_same_in_any_company_and_thread() -> None:
    told = inputs(SMALL)
    evaluate = folded(network(SMALL))
    together = evaluate(*told)
    alone = torch.cat([evaluate(*(part[i : i + 1] for part in told)) for i in (3, 1, 0, 2)])[[2, 1, 3, 0]]
    assert torch.equal(alone, together)
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(evaluate(*told))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(torch.equal(result, together) for result in found)


def test_part_of_a_longer_record_needs_no_copy() -> None:
    made, (x, *told) = network(SMALL), inputs(SMALL)
    longer = torch.cat([x, x], dim=2)
    assert torch.equal(folded(made)(longer[:, :, 20:68], *told), folded(made)(longer[:, :, 20:68].contiguous(), *told))


def test_later_changes_of_the_weights_are_not_seen() -> None:
    made, told = network(SMALL), inputs(SMALL)
    evaluate = folded(made)
    before = evaluate(*told)
    for parameter in made.blocks.parameters():
        parameter.mul_(2)
    assert torch.equal(evaluate(*told), before)


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="records of 48 samples, got 40"):
        folded(network(SMALL))(*inputs(replace(SMALL, length=40)))


def test_fold_takes_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECGFORGE_NATIVE", "0")
    assert fold(network(SMALL)) is None
    monkeypatch.delenv("ECGFORGE_NATIVE")
    assert (fold(network(SMALL)) is None) == isinstance(native_kernels(), Absent)
