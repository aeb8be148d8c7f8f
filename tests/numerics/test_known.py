"""Conditioning on known leads and samples, against the closed form for a correlated Gaussian."""

import pytest
import torch
from gaussian_target import Target, correlated, law_of
from torch import Tensor

from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.flow import FlowSchedule, level_at
from ecgforge.diffusion.known import Known, condition_on
from ecgforge.diffusion.samplers import unipc
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS, twelve_from_eight_matrix

LEADS, SAMPLES = 8, 4
TO_THE_END = 20  # iterations: no fewer than there are known values
TARGET = correlated(LEADS, SAMPLES)
I_AND_II = torch.from_numpy(twelve_from_eight_matrix())[:2]
EVERYWHERE = torch.ones(2, SAMPLES, dtype=torch.bool)


def draws(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, LEADS, SAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def records(count: int) -> Tensor:
    """Drawn from the target."""
    factor = torch.linalg.cholesky(TARGET.covariance)
    return (TARGET.mean + draws(count, seed=5).flatten(1) @ factor.T).unflatten(1, (LEADS, SAMPLES))


def known_leads(deviation: float = 0.0, batch: int = 1) -> Known:
    """Leads I and II at all samples."""
    return Known(I_AND_II, I_AND_II @ records(batch), EVERYWHERE, deviation)


def known_samples() -> Known:
    """All leads in the first half, and V3 throughout."""
    mask = torch.zeros(LEADS, SAMPLES, dtype=torch.bool)
    mask[:, : SAMPLES // 2] = True
    mask[MODEL_LEADS.index("V3")] = True
    return Known(torch.eye(LEADS, dtype=torch.float64), records(1), mask)


def as_one_matrix(known: Known) -> tuple[Tensor, Tensor]:
    """Rows and values of what is known, for signals flattened from C x L."""
    full = torch.kron(known.matrix, torch.eye(SAMPLES, dtype=torch.float64))
    return full[known.mask.flatten()], known.values[0][known.mask]


def conditional_mean(target: Target, known: Known, x: Tensor, level: NoiseLevel) -> Tensor:
    """E[x_0 | x, y], by conditioning on y first and then on x."""
    matrix, y = as_one_matrix(known)
    mean, covariance = target.given(matrix, y, deviation=known.deviation)
    return Target(target.leads, target.samples, mean, covariance).denoise(x, level)


cases = pytest.mark.parametrize(
    "known",
    [known_leads(), known_samples(), known_leads(deviation=0.3)],
    ids=["leads", "samples", "noisy leads"],
)


# ----------------------------------------------------------------------------------------- one noise level


@cases
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_iterated_to_the_end_it_is_the_conditional_mean(known: Known, ratio: float) -> None:
    x, level = draws(5), level_at(ratio)
    got = condition_on(TARGET.denoise, known, iterations=3 * TO_THE_END)(x, level)  # rounding costs some
    torch.testing.assert_close(got, conditional_mean(TARGET, known, x, level), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("deviation", [0.0, 0.4])
def test_for_one_known_number_one_iteration_is_exact(deviation: float) -> None:
    mask = torch.zeros(2, SAMPLES, dtype=torch.bool)
    mask[1, 2] = True
    known = Known(I_AND_II, I_AND_II @ records(1), mask, deviation)
    x, level = draws(5), level_at(2.0)
    got = condition_on(TARGET.denoise, known)(x, level)
    torch.testing.assert_close(got, conditional_mean(TARGET, known, x, level), rtol=1e-6, atol=1e-6)


def test_records_do_not_see_each_other() -> None:
    known = known_leads(batch=3)
    x, level = draws(3), level_at(1.0)
    together = condition_on(TARGET.denoise, known, iterations=3)(x, level)
    for i in range(3):
        one = Known(I_AND_II, known.values[i : i + 1], EVERYWHERE)
        alone = condition_on(TARGET.denoise, one, iterations=3)(x[i : i + 1], level)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------ sampling


@cases
def test_samples_follow_the_conditional_law(known: Known) -> None:
    """Mean and covariance, exact on both sides (iterated to the end, so that the denoiser is affine)."""
    mean, covariance = TARGET.given(*as_one_matrix(known), deviation=known.deviation)
    denoise = condition_on(TARGET.denoise, known, iterations=TO_THE_END)
    got_mean, got_covariance = law_of(unipc, denoise, FlowSchedule().levels(20), shape=(LEADS, SAMPLES))
    spread = covariance.diag().mean().sqrt()
    assert (got_mean - mean).square().mean().sqrt() < 0.02 * spread
    assert (got_covariance - covariance).norm() < 0.1 * covariance.norm()


@cases
def test_one_iteration_comes_close_where_replacing_does_not(known: Known) -> None:
    """Errors of the mean in units of the posterior's spread, and of the spread itself, from 1,000 draws."""
    mean, covariance = TARGET.given(*as_one_matrix(known), deviation=known.deviation)
    spread = covariance.diag().mean().sqrt()

    def replace(x: Tensor, level: NoiseLevel) -> Tensor:  # DDNM
        return known.project(TARGET.denoise(x, level))

    def errors(denoise: object) -> tuple[float, float]:
        x_0 = unipc(denoise, draws(1000), FlowSchedule().levels(20)).flatten(1)  # type: ignore[arg-type]
        return (
            float((x_0.mean(0) - mean).square().mean().sqrt() / spread),
            float(x_0.var(0).mean().sqrt() / spread) - 1,
        )

    off, wide = errors(condition_on(TARGET.denoise, known))
    assert off < 0.3 and abs(wide) < 0.2
    assert off < 0.6 * errors(replace)[0]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_samples_agree_with_the_known_values(sampler: object) -> None:
    def noise() -> Tensor:
        return draws(2, seed=8)

    for known in (known_leads(), known_samples()):
        with torch.no_grad():
            x_0 = sampler(condition_on(TARGET.denoise, known), draws(2), FlowSchedule().levels(8), noise=noise)  # type: ignore[operator]
        assert not x_0.requires_grad
        assert known.residual(x_0).abs().max() < 1e-12


# --------------------------------------------------------------------------------------------- observations


def test_projection_is_the_nearest_signal_that_agrees() -> None:
    mask = torch.tensor([[True, True, False, False], [True, False, True, False]])
    known = Known(I_AND_II, I_AND_II @ records(2), torch.stack([mask, mask.flip(1)]))
    x_0 = draws(2)
    projected = known.project(x_0)
    assert known.residual(projected).abs().max() < 1e-12
    assert torch.equal(projected[0, :, 3], x_0[0, :, 3])  # nothing is known there
    # The nearest: the change is a combination of rows of the matrix.
    change = (projected - x_0).transpose(1, 2).reshape(-1, LEADS)
    basis = torch.linalg.qr(I_AND_II.T).Q
    torch.testing.assert_close(change @ basis @ basis.T, change, rtol=1e-12, atol=1e-12)


def test_all_six_limb_leads_are_two_numbers() -> None:
    """More leads than they carry: the values still fix I and aVF, and unknown values may be NaN."""
    matrix = torch.from_numpy(twelve_from_eight_matrix())[:6]
    truth = records(1)
    values, mask = matrix @ truth, torch.ones(6, SAMPLES, dtype=torch.bool)
    mask[3, 1] = False
    values[0, 3, 1] = torch.nan
    x_0 = condition_on(TARGET.denoise, Known(matrix, values, mask), iterations=3)(draws(1), level_at(1.0))
    for lead in ("I", "aVF"):
        row = MODEL_LEADS.index(lead)
        torch.testing.assert_close(x_0[:, row], truth[:, row], rtol=1e-10, atol=1e-10)
    assert x_0.isfinite().all() and len(STANDARD_LEADS) == 12


# -------------------------------------------------------------------------------------------------- errors


def test_bad_observations_are_refused() -> None:
    values = torch.zeros(1, 2, SAMPLES, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"mask \(K, L\) or \(B, K, L\)"):
        Known(I_AND_II, values, EVERYWHERE[:1])
    with pytest.raises(ConfigError, match="one or more known values"):
        Known(I_AND_II, values, ~EVERYWHERE)
    with pytest.raises(ConfigError, match="all finite"):
        Known(I_AND_II, values / 0, EVERYWHERE)
    with pytest.raises(ConfigError, match="deviation of 0 or more"):
        Known(I_AND_II, values, EVERYWHERE, -1.0)


def test_what_cannot_be_differentiated_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more iterations"):
        condition_on(TARGET.denoise, known_leads(), iterations=0)
    with pytest.raises(ConfigError, match="can be differentiated"):
        condition_on(lambda x, level: x.detach(), known_leads())(draws(1), level_at(1.0))
