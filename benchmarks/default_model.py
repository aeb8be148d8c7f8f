"""Are the default model's records distributed like real ones in the plain things: amplitude, spectrum, leads, rhythm?

    python benchmarks/default_model.py STORE [N [MODEL]]

For N records of fold 9 (default 100; PTB-XL's order, from the start) one synthetic record with the same statements is
made (and the same age, sex and heart rate, where the model knows them). Prints, real beside synthetic: amplitude,
high-frequency share, correlation of neighbouring leads, heart rate, and the held-out loss of the network. A quick
look, not the evaluation of the papers.
"""

import sys
import time
from functools import partial
from pathlib import Path

import neurokit2
import numpy as np
import torch

from ecgforge.checkpoints.native import Model, load_model
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.denoiser import eps_loss
from ecgforge.diffusion.flow import FlowSchedule, flow_loss
from ecgforge.errors import DataError
from ecgforge.facts import Facts
from ecgforge.generate import DEFAULT_MODEL, Generator
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.models.s4 import kernels_kept
from ecgforge.r_peaks import find_r_peaks, mark_known_beats, measure_facts, measure_heart_rate
from ecgforge.rng import record_stream
from ecgforge.sampling import Job


def heart_rates(signals: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Median heart rate (1/min) and spread of RR intervals (coefficient of variation) of each lead II."""
    centre, spread = [], []
    for signal in signals:
        fine = neurokit2.signal_resample(signal[1], sampling_rate=rate, desired_sampling_rate=500)
        try:
            cleaned = neurokit2.ecg_clean(fine, sampling_rate=500)
            peaks = neurokit2.ecg_peaks(cleaned, sampling_rate=500)[1]["ECG_R_Peaks"]
        except (ValueError, IndexError, ZeroDivisionError):
            peaks = np.array([])
        rr = np.diff(peaks) / 500
        if len(rr) > 2:
            centre.append(60 / np.median(rr))
            spread.append(np.std(rr) / np.mean(rr))
    return np.array(centre), np.array(spread)


def describe(name: str, signals: np.ndarray, rate: float) -> None:
    """Print the plain statistics of (n, 12, L) signals in mV."""
    power = (np.abs(np.fft.rfft(signals - signals.mean(-1, keepdims=True))) ** 2).mean((0, 1))
    frequency = np.fft.rfftfreq(signals.shape[-1], 1 / rate)
    high = power[frequency > 25].sum() / power[frequency > 0.5].sum()
    neighbours = [(6, 7), (7, 8), (8, 9), (9, 10), (10, 11)]
    correlation = [np.median([np.corrcoef(s[a], s[b])[0, 1] for s in signals]) for a, b in neighbours]
    amplitude = np.median(np.ptp(signals, axis=-1), axis=0)
    centre, spread = heart_rates(signals, rate)
    print(f"{name:9s} peak to peak mV  " + " ".join(f"{v:5.2f}" for v in amplitude))
    print(f"{name:9s} power over 25 Hz {high:.3f}")
    print(f"{name:9s} V1-V2 .. V5-V6 correlation " + " ".join(f"{v:5.2f}" for v in correlation))
    quartiles = " ".join(f"{v:.0f}" for v in np.percentile(centre, [25, 50, 75]))
    print(
        f"{name:9s} heart rate quartiles {quartiles} 1/min; RR variation median {np.median(spread):.3f}; "
        f"{len(centre)} of {len(signals)} with beats found"
    )


def held_out_loss(model: Model, store: EcgStore, rows: np.ndarray) -> tuple[float, float]:
    """Mean training loss over rows, one noise level each from its own stream, and its standard error."""
    signals = store.signals_mv(rows)[:, [STANDARD_LEADS.index(lead) for lead in MODEL_LEADS]]
    loss_of = _flow_loss if isinstance(model.config.schedule, FlowSchedule) else _eps_loss
    with torch.no_grad(), kernels_kept(model.network):
        losses = [
            loss_of(model, store, int(row), signals[i : i + 1], record_stream(0, i, purpose=99))
            for i, row in enumerate(rows)
        ]
    return float(np.mean(losses)), float(np.std(losses) / np.sqrt(len(losses)))


def _eps_loss(model: Model, store: EcgStore, row: int, signal: np.ndarray, stream: np.random.Generator) -> float:
    condition = torch.from_numpy(store.labels(model.config.vocabulary)[row : row + 1])
    step = torch.tensor([float(stream.integers(model.config.schedule.T))])
    eps = torch.from_numpy(stream.standard_normal(signal.shape, dtype=np.float32))
    return float(
        eps_loss(model.network, model.config.schedule, torch.from_numpy(signal), condition, step=step, eps=eps)
    )


def _flow_loss(model: Model, store: EcgStore, row: int, signal: np.ndarray, stream: np.random.Generator) -> float:
    record = store.record(row)
    statements = store.labels(model.config.vocabulary)[row]
    condition = np.concatenate([statements, measure_facts(record).encode(model.config.network.facts)])
    ratio = torch.tensor([model.config.schedule.draw_ratio(stream)], dtype=torch.float32)
    eps = torch.from_numpy(stream.standard_normal(signal.shape, dtype=np.float32))
    x_0 = torch.from_numpy(signal / np.array(model.config.scales_mv, dtype=np.float32)[:, None])
    beats = torch.from_numpy(mark_known_beats(find_r_peaks(record), signal.shape[2])[None])
    told = partial(model.network, beats=beats)
    return float(flow_loss(told, x_0, torch.from_numpy(condition[None]), ratio=ratio, eps=eps))


def main() -> None:
    store = EcgStore.open(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    rows = store.rows(folds=[9])[:count]
    if not len(rows):
        raise DataError("expected records in fold 9, got none")
    model = load_model(Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_MODEL)
    generator = Generator(model)
    asked = [measure_facts(store.record(int(row))) if generator.facts else Facts() for row in rows]
    jobs = [Job(i, store.record(int(row)).statements, asked[i]) for i, row in enumerate(rows)]
    started = time.monotonic()
    records = list(generator.sample_each(jobs, seed=0))
    made = np.stack([record.signal for record in records])
    seconds = (time.monotonic() - started) / len(rows)
    print(f"{len(rows)} records, {seconds:.2f} s each on {torch.get_num_threads()} threads")
    print("leads     " + " ".join(STANDARD_LEADS))
    describe("real", store.signals_mv(rows), store.rate)
    describe("synthetic", made, store.rate)
    if generator.facts:
        met = [
            abs((measure_heart_rate(r) or np.nan) - (f.heart_rate or np.nan))
            for r, f in zip(records, asked, strict=True)
        ]
        quartiles = " ".join(f"{v:.1f}" for v in np.nanpercentile(met, [25, 50, 75, 90]))
        print(f"heart rate asked for against met, quartiles and 90 % of the difference: {quartiles} 1/min")
    for name, folds in (("training folds", range(1, 9)), ("fold 9", [9])):
        chosen = store.rows(folds=folds)
        chosen = chosen[:: max(1, len(chosen) // 400)][:400]
        loss, error = held_out_loss(model, store, chosen)
        print(f"loss on 400 records of {name}: {loss:.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
