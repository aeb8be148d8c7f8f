"""Samplers against closed forms: a Gaussian target with its exact denoiser, and the papers' own formulas."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from gaussian_target import correlated, law_of
from torch import Tensor

from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.denoiser import Denoiser, eps_denoiser, eps_loss
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.samplers import Noise, ddim, ddpm, dpmpp_2m, dpmpp_sde, unipc
from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel

MEAN = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]  # of each lead
DEVIATION = torch.linspace(0.2, 1.5, 8, dtype=torch.float64)[:, None]


def gaussian_denoiser(x: Tensor, level: NoiseLevel) -> Tensor:
    """E[x_0 | x] for x_0 ~ N(MEAN, DEVIATION^2), x = alpha x_0 + sigma eps."""
    gain = level.alpha * DEVIATION**2 / (level.alpha**2 * DEVIATION**2 + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


def terminal_draw(level: NoiseLevel, *, size: int, generator: torch.Generator) -> Tensor:
    """(size, 8, 1) from the true marginal at this level."""
    drawn = torch.randn(size, 8, 1, dtype=torch.float64, generator=generator)
    return level.alpha * MEAN + (level.alpha**2 * DEVIATION**2 + level.sigma**2).sqrt() * drawn


def normal_noise(shape: Sequence[int], seed: int = 0) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(*shape, dtype=torch.float64, generator=generator)


def no_noise() -> Tensor:
    raise AssertionError("a deterministic sampler drew noise")


# -------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize(
    ("sampler", "steps", "bias"),
    # The discretisation's own bias of the spread, from the exact recursion of mean and variance.
    [(ddpm, 400, 0.015), (ddim, 400, 0.01), (dpmpp_2m, 100, 0.005), (dpmpp_sde, 100, 0.01), (unipc, 50, 0.005)],
    ids=["ddpm", "ddim", "dpmpp", "dpmpp-sde", "unipc"],
)
def test_samples_have_the_targets_mean_and_variance(sampler: Callable[..., Tensor], steps: int, bias: float) -> None:
    size = 10_000
    levels = LinearSchedule(T=2000, beta_0=1e-5, beta_T=0.01).levels(steps)
    x = terminal_draw(levels[0], size=size, generator=torch.Generator().manual_seed(1))
    x_0 = sampler(gaussian_denoiser, x, levels, noise=normal_noise(x.shape))
    mean, deviation = x_0.mean(0), x_0.std(0)
    # Four standard errors: 1 / sqrt(n) of the mean, 1 / sqrt(2 n) of the standard deviation.
    assert ((mean - MEAN).abs() < 4 * DEVIATION / math.sqrt(size)).all()
    assert ((deviation / DEVIATION - 1).abs() < bias + 4 / math.sqrt(2 * size)).all()


def test_twenty_steps_come_close_to_the_targets_spread() -> None:
    """The default of the product, on the published schedule: the spread of every lead within 2 %."""
    levels = LinearSchedule().levels(20)
    x = terminal_draw(levels[0], size=5000, generator=torch.Generator().manual_seed(2))
    standard = (x - x.mean(0)) / x.std(0)
    start = levels[0].alpha * MEAN + (levels[0].alpha ** 2 * DEVIATION**2 + levels[0].sigma ** 2).sqrt() * standard
    x_0 = dpmpp_2m(gaussian_denoiser, start, levels)
    torch.testing.assert_close(x_0.mean(0), MEAN, rtol=0, atol=1e-9)
    assert (x_0.std(0) / DEVIATION - 1).abs().max() < 0.02


# --------------------------------------------------------------------------------- order of convergence


def even_levels(count: int) -> list[NoiseLevel]:
    """Levels of a variance-preserving process, evenly in lambda = log(alpha / sigma) from -2 to 10.

    At the last, sigma is 5e-5, so that the jump to the clean signal adds an error of 1e-8 or less.
    """
    levels = []
    for half_log_snr in np.linspace(-2, 10, count):
        sigma = 1 / math.sqrt(1 + math.exp(2 * half_log_snr))
        levels.append(NoiseLevel(step=0.0, alpha=math.exp(half_log_snr) * sigma, sigma=sigma))
    return levels


def error_of(sampler: Callable[..., Tensor], count: int) -> float:
    """Distance of the sampler's end point from the exact solution of the probability-flow ODE.

    For a Gaussian target the flow keeps the standardised value: (x_t - alpha_t mu) / deviation_t is constant.
    """
    levels = even_levels(count)
    standard = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None, None]
    first = levels[0]
    x_T = first.alpha * MEAN + (first.alpha**2 * DEVIATION**2 + first.sigma**2).sqrt() * standard
    x_0 = sampler(gaussian_denoiser, x_T, levels, noise=no_noise)
    return float((x_0 - (MEAN + DEVIATION * standard)).square().mean().sqrt())


each_order = pytest.mark.parametrize(
    ("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2), (unipc, 3)], ids=["ddim", "dpmpp", "unipc"]
)


@each_order
def test_empirical_order_of_convergence(sampler: Callable[..., Tensor], order: int) -> None:
    errors = np.array([error_of(sampler, count) for count in (65, 129, 257, 513)])
    slopes = np.log2(errors[:-1] / errors[1:])
    assert errors[-1] > 1e-7  # well above the error of the last jump
    np.testing.assert_allclose(slopes, order, atol=0.15)


def error_at_the_last_level(sampler: Callable[..., Tensor], levels: Sequence[NoiseLevel]) -> float:
    """As error_of, against the denoiser at the exact end of the flow, so that the last jump adds nothing."""
    standard = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None, None]

    def exact(level: NoiseLevel) -> Tensor:
        return level.alpha * MEAN + (level.alpha**2 * DEVIATION**2 + level.sigma**2).sqrt() * standard

    x_0 = sampler(gaussian_denoiser, exact(levels[0]), levels, noise=no_noise)
    return float((x_0 - gaussian_denoiser(exact(levels[-1]), levels[-1])).square().mean().sqrt())


@pytest.mark.parametrize(
    "schedule",
    # So many steps that their rounding to whole numbers does not show.
    [LinearSchedule(T=200_000, beta_0=1e-7, beta_T=2e-5), FlowSchedule(smallest=1e-3)],
    ids=["linear", "flow"],
)
@each_order
def test_order_on_the_schedules_own_levels(
    sampler: Callable[..., Tensor], order: int, schedule: LinearSchedule | FlowSchedule
) -> None:
    errors = np.array([error_at_the_last_level(sampler, schedule.levels(count)) for count in (65, 129, 257)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.15)


# -------------------------------------------------------------------------------------- stochastic solver

PURE_NOISE = LinearSchedule(T=2000, beta_0=1e-5, beta_T=0.01)  # nothing of the signal is left at its start


@pytest.mark.parametrize(
    ("schedule", "count", "tolerance"),
    [(PURE_NOISE, 50, 0.025), (FlowSchedule(), 50, 0.03), (FlowSchedule(), 200, 0.003)],
    ids=["linear", "flow", "flow in many"],
)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_law_of_the_second_order_stochastic_solver(
    schedule: LinearSchedule | FlowSchedule, count: int, tolerance: float, eta: float
) -> None:
    """Mean and covariance of correlated leads, computed without drawing."""
    target = correlated(3, 2)
    mean, covariance = law_of(
        partial(dpmpp_sde, eta=eta), target.denoise, schedule.levels(count), shape=(3, 2), stochastic=True
    )
    assert (mean - target.mean).abs().max() < tolerance
    assert (covariance - target.covariance).norm() / target.covariance.norm() < 2 * tolerance  # of variances


def test_few_calls_of_it_are_nearer_than_as_many_of_ddpm() -> None:
    target, levels = correlated(3, 2), FlowSchedule().levels(20)
    wrong = [
        float(
            (law_of(sampler, target.denoise, levels, shape=(3, 2), stochastic=True)[1] / target.covariance)
            .diag()
            .sqrt()
            .mean()
            - 1
        )
        for sampler in (ddpm, dpmpp_sde)
    ]
    assert wrong[0] < -0.2 and 0 < wrong[1] < 0.1


def test_fresh_noise_mends_an_error_made_at_high_noise() -> None:
    """A denoiser that is wrong at high noise leaves less of it in the samples of a stochastic solver."""
    target, levels = correlated(3, 2), FlowSchedule().levels(50)

    def wrong(x: Tensor, level: NoiseLevel) -> Tensor:
        return target.denoise(x, level) + (1.0 if level.sigma > 5 * level.alpha else 0.0)

    def harm(sampler: Callable[..., Tensor]) -> Tensor:
        return (law_of(sampler, wrong, levels, shape=(3, 2), stochastic=True)[0] - target.mean).norm()

    assert harm(dpmpp_sde) < 0.5 * harm(dpmpp_2m)


def test_its_ends_are_the_other_samplers() -> None:
    levels, x = LinearSchedule().levels(9), normal_noise((3, 8, 2))()
    first, last = levels[0], levels[-1]
    assert torch.equal(
        dpmpp_sde(gaussian_denoiser, x, levels, noise=no_noise, eta=0.0), dpmpp_2m(gaussian_denoiser, x, levels)
    )
    torch.testing.assert_close(
        dpmpp_sde(gaussian_denoiser, x, [first, last], noise=normal_noise(x.shape)),
        ddpm(gaussian_denoiser, x, [first, last], noise=normal_noise(x.shape)),
    )


# ------------------------------------------------------------------------------------- papers' formulas


def nonlinear_denoiser(condition: Tensor) -> Denoiser:
    def network(x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        return torch.tanh(x + torch.sin(step)[:, None, None] + condition.sum(1)[:, None, None])

    return eps_denoiser(network, condition)


@pytest.mark.parametrize("sampler", [ddpm, lambda *args, noise: ddim(*args, noise=noise, eta=1.0)])
def test_ancestral_step_is_the_update_of_the_paper(sampler: Callable[..., Tensor]) -> None:
    """x_{t-1} = (x - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t) + sqrt(beta_tilde_t) z."""
    schedule = LinearSchedule()
    shape = (2, 8, 16)
    condition = torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x_T = normal_noise(shape, seed=1)()
    got = sampler(nonlinear_denoiser(condition), x_T, schedule.levels(), noise=normal_noise(shape, seed=2))

    beta = np.linspace(1e-4, 0.02, 200)
    alpha, alpha_bar = 1 - beta, np.cumprod(1 - beta)
    noise, x = normal_noise(shape, seed=2), x_T
    for t in reversed(range(200)):
        eps = torch.tanh(x + math.sin(t) + condition.sum(1)[:, None, None])
        x = (x - (1 - alpha[t]) / math.sqrt(1 - alpha_bar[t]) * eps) / math.sqrt(alpha[t])
        if t > 0:
            x = x + math.sqrt((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]) * noise()
    torch.testing.assert_close(got, x, rtol=1e-10, atol=1e-10)


def test_ancestral_sampling_draws_noise_at_every_step_but_the_last() -> None:
    drawn = 0

    def noise() -> Tensor:
        nonlocal drawn
        drawn += 1
        return torch.zeros(1, 8, 1, dtype=torch.float64)

    x = torch.zeros(1, 8, 1, dtype=torch.float64)
    ddpm(gaussian_denoiser, x, LinearSchedule().levels(17), noise=noise)
    assert drawn == 16


def test_second_order_step_is_that_of_the_paper() -> None:
    """Three steps of arXiv 2211.01095, Algorithm 2, written out."""
    a, b, c = (LinearSchedule().level(step) for step in (199, 90, 0))
    x_T = normal_noise((3, 8, 2))()
    h_1, h_2 = b.half_log_snr - a.half_log_snr, c.half_log_snr - b.half_log_snr
    d_a = gaussian_denoiser(x_T, a)
    x_b = b.sigma / a.sigma * x_T - b.alpha * (math.exp(-h_1) - 1) * d_a
    d_b = gaussian_denoiser(x_b, b)
    r = h_1 / h_2
    mixed = (1 + 1 / (2 * r)) * d_b - 1 / (2 * r) * d_a
    x_c = c.sigma / b.sigma * x_b - c.alpha * (math.exp(-h_2) - 1) * mixed
    expected = gaussian_denoiser(x_c, c)
    torch.testing.assert_close(dpmpp_2m(gaussian_denoiser, x_T, [a, b, c]), expected, rtol=1e-12, atol=1e-12)


def test_predictor_and_corrector_are_those_of_the_paper() -> None:
    """Three steps of arXiv 2302.04867, Algorithms 1 and 2, written out with psi functions and B(h) = e^-h - 1."""
    a, b, c = (LinearSchedule().level(step) for step in (199, 120, 40))
    x_a = normal_noise((3, 8, 2))()
    h, k = b.half_log_snr - a.half_log_snr, c.half_log_snr - b.half_log_snr
    d_a = gaussian_denoiser(x_a, a)
    d_b = gaussian_denoiser(b.sigma / a.sigma * x_a - b.alpha * math.expm1(-h) * d_a, b)
    # The first correction: one node; its coefficient is phi_2(-h) h / B(h), 1/2 to first order.
    x_b = b.sigma / a.sigma * x_a - b.alpha * (math.expm1(-h) * d_a - (1 + math.expm1(-h) / h) * (d_b - d_a))
    r = -h / k
    predicted = c.sigma / b.sigma * x_b - c.alpha * math.expm1(-k) * (d_b + (d_a - d_b) / r / 2)
    d_c = gaussian_denoiser(predicted, c)

    phi_2 = math.expm1(-k) / -k - 1
    phi_3 = phi_2 / -k - 1 / 2
    B = math.expm1(-k)
    rho = np.linalg.solve([[1, 1], [r, 1]], [phi_2 / B, 2 * phi_3 / B])
    x_c = c.sigma / b.sigma * x_b - c.alpha * B * (d_b + rho[0] * (d_a - d_b) / r + rho[1] * (d_c - d_b))
    end = LinearSchedule().level(0)  # a fourth level, predicted from the corrected x_c
    last = end.half_log_snr - c.half_log_snr
    x_end = end.sigma / c.sigma * x_c - end.alpha * math.expm1(-last) * (d_c + (d_c - d_b) * last / k / 2)
    got = unipc(gaussian_denoiser, x_a, [a, b, c, end])
    torch.testing.assert_close(got, gaussian_denoiser(x_end, end), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_the_noise_decides_the_sample(sampler: Callable[..., Tensor]) -> None:
    levels = LinearSchedule().levels(10)
    condition = torch.ones(2, 3, dtype=torch.float64)

    def sample(seed: int) -> Tensor:
        noise = normal_noise((2, 8, 4), seed=seed)
        return sampler(nonlinear_denoiser(condition), noise(), levels, noise=noise)

    assert torch.equal(sample(1), sample(1))
    assert not torch.allclose(sample(1), sample(2))


# -------------------------------------------------------------------------------------- denoiser, loss


def test_denoiser_of_the_true_noise_gives_the_signal() -> None:
    level = LinearSchedule().level(150)
    x_0, eps = torch.randn(2, 2, 8, 16, dtype=torch.float64)
    told: list[Tensor] = []

    def network(x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        told.extend((step, condition))
        return eps

    condition = torch.rand(2, 3)
    denoise = eps_denoiser(network, condition)
    torch.testing.assert_close(denoise(level.alpha * x_0 + level.sigma * eps, level), x_0)
    assert told[0].tolist() == [150.0, 150.0] and told[1] is condition


def test_loss_is_the_error_of_the_predicted_noise() -> None:
    schedule = LinearSchedule()
    x_0, eps = torch.randn(2, 3, 8, 16)
    step = torch.tensor([0.0, 77.0, 199.0])

    def network(x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        return x * condition[:, :1, None]

    condition = torch.tensor([[1.0], [2.0], [-1.0]])
    losses = eps_loss(network, schedule, x_0, condition, step=step, eps=eps)
    for i, level in enumerate(schedule.level(int(t)) for t in step):
        x_t = level.alpha * x_0[i] + level.sigma * eps[i]
        expected = (float(condition[i]) * x_t - eps[i]).square().mean()
        torch.testing.assert_close(losses[i], expected, rtol=1e-5, atol=1e-6)
