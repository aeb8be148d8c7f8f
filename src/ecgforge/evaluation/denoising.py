"""How well a diffusion model denoises given records: what an attack on the model itself looks at.

A model denoises records it has learnt by heart better than others. But records differ in how hard they are to denoise
for anyone: muscle noise cannot be told from the noise that was added. A filter that knows the mean spectrum only says
how hard a record is, and the model's error is read against it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.denoiser import eps_denoiser
from ecgforge.diffusion.flow import FlowSchedule, flow_denoiser, level_at
from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel
from ecgforge.errors import CheckpointError, DataError
from ecgforge.leads import STANDARD_LEADS
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.s4 import kernels_kept
from ecgforge.models.sssd import SssdConfig
from ecgforge.r_peaks import find_r_peaks, mark_known_beats, measure_facts
from ecgforge.rng import Purpose, record_stream

NOISE_SHARES = (0.1, 0.3, 1.0, 3.0)  # noise over signal: from where details are at stake to where beats find places
_TYPICAL_MV = 0.25  # root mean square of an ECG lead, for models that see millivolts
_BATCH = 16  # records; changes memory and speed, not the result

Progress = Callable[[int, int], None]


def attack_levels(config: ModelConfig) -> tuple[NoiseLevel, ...]:
    """The model's noise levels at NOISE_SHARES, or the nearest ones it knows.

    Raises:
        CheckpointError: the model is no diffusion model.
    """
    schedule = config.schedule
    if schedule is None:
        raise CheckpointError(_no_schedule(config))
    if isinstance(schedule, FlowSchedule):
        return tuple(level_at(share) for share in NOISE_SHARES)
    unit_mv = 1.0 if config.scales_mv else _TYPICAL_MV
    return tuple(_nearest_level(schedule, share * unit_mv) for share in NOISE_SHARES)


def _nearest_level(schedule: LinearSchedule, ratio: float) -> NoiseLevel:
    levels = schedule.levels()
    return min(levels, key=lambda level: abs(level.half_log_snr + math.log(ratio)))


@torch.no_grad()
def denoising_errors(
    model: Model,
    store: EcgStore,
    rows: Sequence[int] | Int[np.ndarray, " N"],
    *,
    levels: Sequence[NoiseLevel],
    draws: int = 1,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Float[np.ndarray, "N levels"]:
    """Mean squared error of the denoised records, by record and noise level.

    The model is told what it is told in training: the statements, the facts it knows and where the beats are. Every
    record and level gets the same noise: its luck cancels where records are compared, and a record's error does not
    depend on which others are asked for. Longer records than the network's are cut at the end.

    Args:
        model: A diffusion model.
        store: Real records at the model's rate.
        rows: Which of them.
        levels: Noise levels, see attack_levels.
        draws: Noises that the error is averaged over.
        seed: Of the noises.
        device: Where the network runs; it stays there.
        progress: Called with (records done, records in all).

    Returns:
        Squared errors, in the squared units of the network's signals.

    Raises:
        CheckpointError: the model is no diffusion model.
        DataError: the store has another rate than the model's, or shorter records than the network's.

    Source: thresholds on the loss: Yeom et al. 2018 (arXiv 1709.01604); for diffusion models Carlini et al. 2023
    (arXiv 2301.13188).
    """
    require_denoisable(model.config, store)
    rows = np.asarray(rows, dtype=np.int64)
    conditions = _conditions(model.config, store, rows)
    beats = _beats(model.config, store, rows)
    network = model.network.to(device).eval()
    shape = (len(model.config.leads), _length(model.config))
    noises = [_noise(shape, seed=seed, draw=draw).to(device) for draw in range(draws)]
    as_denoiser = flow_denoiser if isinstance(model.config.schedule, FlowSchedule) else eps_denoiser
    errors = np.zeros((len(rows), len(levels)))
    with kernels_kept(network), torch.nn.utils.parametrize.cached():
        for block, signals in _network_signals(model.config, store, rows, size=_BATCH):
            x_0 = torch.from_numpy(signals).to(device)
            call = network if beats is None else partial(network, beats=torch.from_numpy(beats[block]).to(device))
            denoise = as_denoiser(call, torch.from_numpy(conditions[block]).to(device))
            for k, level in enumerate(levels):
                for noise in noises:
                    x_0_hat = denoise(level.alpha * x_0 + level.sigma * noise, level)
                    errors[block, k] += (x_0_hat - x_0).square().mean(dim=(1, 2)).cpu().numpy() / draws
            if progress:
                progress(block.stop, len(rows))
    return errors


def filter_errors(
    config: ModelConfig,
    store: EcgStore,
    rows: Sequence[int] | Int[np.ndarray, " N"],
    *,
    levels: Sequence[NoiseLevel],
) -> Float[np.ndarray, "N levels"]:
    """Expected squared error of the best linear filter: how hard each record is to denoise without having seen it.

    The filter knows the mean power spectrum P of every lead over these records, members and others alike:
    gain g = alpha P / (alpha^2 P + sigma^2). A record with the spectrum X has the error
    sum (1 - g alpha)^2 |X|^2 + g^2 sigma^2. No noise is drawn.

    Args:
        config: Of the diffusion model; its leads, units and length.
        store: Real records.
        rows: Which of them.
        levels: Noise levels.

    Returns:
        As denoising_errors.

    Raises:
        CheckpointError, DataError: as denoising_errors.

    Source: Wiener 1949. Scores less how hard a record is: Watson et al. 2022 (arXiv 2111.08440).
    """
    require_denoisable(config, store)
    rows = np.asarray(rows, dtype=np.int64)
    mean: Float[np.ndarray, "C F"] | float = 0.0
    for _, signals in _network_signals(config, store, rows, size=256):
        mean = mean + _power(signals).sum(axis=0) / len(rows)
    errors = np.empty((len(rows), len(levels)))
    for block, signals in _network_signals(config, store, rows, size=256):
        power = _power(signals)
        for k, level in enumerate(levels):
            gain = level.alpha * mean / (level.alpha**2 * mean + level.sigma**2 * _power_of_noise(signals.shape[-1]))
            left = (1 - gain * level.alpha) ** 2 * power
            passed = (gain * level.sigma) ** 2 * _power_of_noise(signals.shape[-1])
            errors[block, k] = (left + passed).sum(axis=-1).mean(axis=-1)
    return errors


def require_denoisable(config: ModelConfig, store: EcgStore) -> None:
    """Make sure that the model is a diffusion model and the store's records fit it.

    Raises:
        CheckpointError, DataError: as denoising_errors.
    """
    if config.schedule is None:
        raise CheckpointError(_no_schedule(config))
    if store.rate != config.rate:
        raise DataError(
            f"expected a store at {config.rate:g} Hz, the rate of the model {config.name}, {store.path} has "
            f"{store.rate:g} Hz; build it at {config.rate:g} Hz"
        )
    if store.samples < _length(config):
        raise DataError(
            f"expected records of {_length(config)} samples or more for the model {config.name}, "
            f"{store.path} has {store.samples}; build it with longer records"
        )


def _no_schedule(config: ModelConfig) -> str:
    return f"expected a diffusion model, got the {config.network.kind} {config.name}, which has no denoising error"


def _length(config: ModelConfig) -> int:
    if not isinstance(config.network, SssdConfig | PatchS4Config):
        raise CheckpointError(_no_schedule(config))
    return config.network.length


def _noise(shape: tuple[int, int], *, seed: int, draw: int) -> Float[Tensor, "C L"]:
    return torch.from_numpy(
        record_stream(seed, draw, purpose=Purpose.DENOISING_NOISE).standard_normal(shape, dtype=np.float32)
    )


def _network_signals(
    config: ModelConfig, store: EcgStore, rows: Int[np.ndarray, " N"], *, size: int
) -> Iterator[tuple[slice, Float[np.ndarray, "B C L"]]]:
    """Blocks of records as the network sees them: its leads, length and units."""
    leads = [STANDARD_LEADS.index(lead) for lead in config.leads]
    scales = np.array(config.scales_mv or [1.0] * len(leads), dtype=np.float32)[:, None]
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        yield block, store.signals_mv(rows[block])[:, leads, : _length(config)] / scales


def _conditions(config: ModelConfig, store: EcgStore, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N K"]:
    statements = store.labels(config.vocabulary)[rows]
    facts = config.network.facts if isinstance(config.network, PatchS4Config) else ()
    if not facts:
        return statements
    told = np.stack([measure_facts(store.record(row)).encode(facts) for row in rows.tolist()])
    return np.concatenate([statements, told], axis=1)


def _beats(config: ModelConfig, store: EcgStore, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N L"] | None:
    if not isinstance(config.network, PatchS4Config):
        return None
    length = _length(config)
    return np.stack([mark_known_beats(find_r_peaks(store.record(row)), length) for row in rows.tolist()])


def _power(signals: Float[np.ndarray, "B C L"]) -> Float[np.ndarray, "B C F"]:
    """Power by frequency; its sum is the mean square of the signal (Parseval)."""
    length = signals.shape[-1]
    power = np.abs(np.fft.rfft(signals.astype(np.float64))) ** 2 / length**2
    return power * _sides(length)


def _power_of_noise(length: int) -> Float[np.ndarray, " F"]:
    """The same of white noise of variance 1, expected."""
    return _sides(length) / length


def _sides(length: int) -> Float[np.ndarray, " F"]:
    """How often a frequency of the one-sided spectrum is in the two-sided one."""
    sides = np.full(length // 2 + 1, 2.0)
    sides[0] = 1
    if length % 2 == 0:
        sides[-1] = 1
    return sides
