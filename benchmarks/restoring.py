"""How far from the truth are restored ECGs? Missing leads, gaps in time and variants of real records of fold 9.

    python benchmarks/restoring.py STORE [N [MODEL]]

N records (default 40) drawn at random. Of each, `complete` makes the other leads from a few, `inpaint` a gap of 1.5 s,
`vary` variants at asked distances; statements are told, as a reader of the record would know them. Prints, for one draw
and for the mean of four: error (root mean squared, as a share of the truth's own) and correlation over what was
missing, medians over records with their quartiles. Beside them what needs no model: missing leads as a linear function
of the given ones, fitted to 500 training records, and a gap filled with what came one RR interval before. A draw is as
variable as the truth is given what is known, so its squared error is twice that of the best guess; the mean of draws
comes nearer to that guess.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from measuring import print_table
from tqdm import tqdm

from ecgforge.data.store import EcgStore
from ecgforge.generate import Generator
from ecgforge.leads import STANDARD_LEADS
from ecgforge.r_peaks import find_r_peaks
from ecgforge.record import EcgRecord
from ecgforge.restore import complete, inpaint, vary

DRAWS = 4
GIVEN = (("I", "II"), ("II",), ("I", "II", "V2"), ("I", "II", "V2", "V5"))
GAP = (4.0, 5.5)  # seconds
DISTANCES = (0.3, 0.6, 1.0)
LEARNED_FROM = 500  # records of the regression
CHEST = [STANDARD_LEADS.index(lead) for lead in ("V1", "V2", "V3", "V4", "V5", "V6")]

Signal = Float[np.ndarray, "C L"]


def error(found: Signal, truth: Signal) -> float:
    """Root mean squared error as a share of the truth's."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def correlation(found: Signal, truth: Signal) -> float:
    """Mean over leads; a lead that is flat counts nothing."""
    pairs = [(a, b) for a, b in zip(found, truth, strict=True) if a.std() and b.std()]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])) if pairs else float("nan")


def summary(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def row(task: str, way: str, pairs: Sequence[tuple[Signal, Signal]]) -> list[str]:
    """A line of the table, from what was found and what is true."""
    return [task, way, summary([error(*pair) for pair in pairs]), summary([correlation(*pair) for pair in pairs])]


def drawn(store: EcgStore, folds: Sequence[int], count: int) -> list[EcgRecord]:
    """Records of these folds, at random, always the same."""
    rows = store.rows(folds=folds)
    picks = np.random.default_rng(0).choice(rows, size=min(count, len(rows)), replace=False)
    return [store.record(int(pick)) for pick in picks]


def only(record: EcgRecord, leads: tuple[str, ...]) -> EcgRecord:
    """The record with these leads."""
    return replace(record, signal=np.stack([record.lead(lead) for lead in leads]), leads=leads)


def lead_map(records: Sequence[EcgRecord], given: tuple[str, ...]) -> Float[np.ndarray, "G chest"]:
    """Least squares from the given leads to the chest leads, sample by sample."""
    inputs = np.concatenate([only(record, given).signal for record in records], axis=1)
    outputs = np.concatenate([record.signal[CHEST] for record in records], axis=1)
    return np.linalg.lstsq(inputs.T, outputs.T, rcond=None)[0]


def one_beat_before(record: EcgRecord, first: int, behind: int) -> Signal:
    """What stood there one RR interval earlier, or two, where one is shorter than the gap; NaN without beats."""
    peaks = find_r_peaks(record)
    if len(peaks) < 2:
        return np.full((len(record.leads), behind - first), np.nan)
    beat = round(float(np.median(np.diff(peaks))))
    lag = beat * -(-(behind - first) // beat)
    return record.signal[:, first - lag : behind - lag]


def draws(restore: Callable[..., list[EcgRecord]], record: EcgRecord) -> list[Signal]:
    """Signals of the restored records."""
    return [made.signal for made in restore(record=record, n=DRAWS, seed=0)]


def lead_rows(generator: Generator, records: Sequence[EcgRecord], lessons: Sequence[EcgRecord]) -> list[list[str]]:
    """Chest leads that were not given."""
    rows = []
    for given in GIVEN:
        missing = [row for row in CHEST if STANDARD_LEADS[row] not in given]
        linear = lead_map(lessons, given)[:, [CHEST.index(row) for row in missing]]
        ways: dict[str, list[tuple[Signal, Signal]]] = {"one draw": [], "mean of four": [], "linear": []}
        for record in tqdm(records, desc=" ".join(given)):
            made = [signal[missing] for signal in draws(partial(complete, generator), only(record, given))]
            truth = record.signal[missing]
            ways["one draw"].append((made[0], truth))
            ways["mean of four"].append((np.mean(made, axis=0), truth))
            ways["linear"].append((linear.T @ only(record, given).signal, truth))
        rows += [row(f"chest leads from {' '.join(given)}", way, pairs) for way, pairs in ways.items()]
    return rows


def gap_rows(generator: Generator, records: Sequence[EcgRecord]) -> list[list[str]]:
    """A gap in all leads."""
    first, behind = (round(place * records[0].rate) for place in GAP)
    ways: dict[str, list[tuple[Signal, Signal]]] = {"one draw": [], "mean of four": [], "one RR interval before": []}
    for record in tqdm(records, desc="gap"):
        made = [signal[:, first:behind] for signal in draws(partial(inpaint, generator, gaps=[GAP]), record)]
        truth = record.signal[:, first:behind]
        ways["one draw"].append((made[0], truth))
        ways["mean of four"].append((np.mean(made, axis=0), truth))
        ways["one RR interval before"].append((one_beat_before(record, first, behind), truth))
    return [row(f"gap of {GAP[1] - GAP[0]:g} s", way, pairs) for way, pairs in ways.items()]


def variant_rows(generator: Generator, records: Sequence[EcgRecord]) -> list[list[str]]:
    """Variants at a distance, which is the error one wants."""
    rows = []
    for distance in DISTANCES:
        restore = partial(vary, generator, distance=distance, n=1, seed=0)
        pairs = [(restore(record=record)[0].signal, record.signal) for record in tqdm(records, desc=f"vary {distance}")]
        rows.append(row("variant", f"distance {distance:g}", pairs))
    return rows


def main() -> None:
    store = EcgStore.open(Path(sys.argv[1]))
    records = drawn(store, (9,), int(sys.argv[2]) if len(sys.argv) > 2 else 40)
    generator = Generator.load(*sys.argv[3:4])
    rows = lead_rows(generator, records, drawn(store, range(1, 8), LEARNED_FROM))
    rows += gap_rows(generator, records) + variant_rows(generator, records)
    print_table(("task", "way", "error", "correlation"), rows)


if __name__ == "__main__":
    main()
