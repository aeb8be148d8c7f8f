"""Between two statement sets: the same noise, conditions mixed in grades, and what happens to the beat.

Source: Alcaraz and Strodthoff, arXiv 2301.08227, Figures 4-6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.evaluation.beats import (
    BeatSummary,
    add_legend,
    beat_panels,
    summarise_beats,
)
from ecgforge.generate import Generator
from ecgforge.labels import LabelVocabulary, format_statements, parse_statements, statement
from ecgforge.r_peaks import SHORTEST_S, SLOWEST_RATE
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplingOptions

GRADES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Records and beats between two statement sets.

    Attributes:
        a: Statements at grade 1.
        b: Statements at grade 0.
        grades: Shares alpha of `a`, as asked for.
        records: A row a grade; records in one column began as the same noise.
        beats: The beats of each grade.
        seed: Of the noise.
    """

    a: Mapping[str, float]
    b: Mapping[str, float]
    grades: tuple[float, ...]
    records: tuple[tuple[EcgRecord, ...], ...]
    beats: tuple[BeatSummary, ...]
    seed: int


def mix_statements(a: Mapping[str, float], b: Mapping[str, float], *, alpha: float) -> dict[str, float]:
    """Statements graded alpha * a + (1 - alpha) * b; those of grade 0 are left out.

    Raises:
        ConfigError: alpha is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"expected grades of an interpolation from 0 to 1, got {alpha}")
    mixed = {code: alpha * a.get(code, 0.0) + (1 - alpha) * b.get(code, 0.0) for code in (*a, *b)}
    return {code: min(grade, 1.0) for code, grade in mixed.items() if grade > 0}  # rounding may exceed 1


def interpolate(
    generator: Generator,
    a: str | Mapping[str, float],
    b: str | Mapping[str, float],
    *,
    grades: Sequence[float] = GRADES,
    n: int = 50,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Callable[[int, int], None] | None = None,
) -> Interpolation:
    """Records for the conditions alpha * a + (1 - alpha) * b, from the same n noises for every grade alpha.

    Args:
        generator: The model.
        a: Statements at grade 1: "NORM,SR" or {"NORM": 1.0, "SR": 1.0}.
        b: Statements at grade 0.
        grades: The shares alpha.
        n: Noises, that is records per grade.
        seed: Noise i is that of record i of this seed.
        options: Sampler, steps and batch size.
        progress: Called with (steps done, steps in all).

    Raises:
        ConfigError: no grades, one outside [0, 1], or n below 1.
        LabelError: a statement is unknown to ecgforge or to the model, or the model's labels cannot be mixed.
        DataError: the model's records are too short or too coarse to find beats in.
    """
    if n < 1 or not grades:
        raise ConfigError(f"expected 1 or more noises and grades, got {n} and {len(grades)}")
    if generator.config.rate < SLOWEST_RATE or generator.length < SHORTEST_S * generator.config.rate:
        raise DataError(
            f"expected a model whose records can show beats ({SHORTEST_S:g} s or more at {SLOWEST_RATE:g} Hz or more), "
            f"got {generator.length} samples at {generator.config.rate:g} Hz"
        )
    first, second = _statement_set(a), _statement_set(b)
    require_mixable(generator.config.vocabulary, first, second, alphas=grades)
    mixed = [mix_statements(first, second, alpha=alpha) for alpha in grades]
    jobs = [Job(index, statements) for statements in mixed for index in range(n)]
    made = list(generator.sample_each(jobs, seed=seed, options=options, progress=progress))
    records = tuple(tuple(made[start : start + n]) for start in range(0, len(made), n))
    return Interpolation(
        a=first,
        b=second,
        grades=tuple(grades),
        records=records,
        beats=tuple(summarise_beats(row) for row in records),
        seed=seed,
    )


def _statement_set(given: str | Mapping[str, float]) -> dict[str, float]:
    if isinstance(given, str):
        return parse_statements(given)
    bad = {code: grade for code, grade in given.items() if not 0 < grade <= 1}
    if bad:
        raise LabelError(f"expected grades above 0 and at most 1, got {bad}")
    return {statement(code).code: float(grade) for code, grade in given.items()}


def require_mixable(
    vocabulary: LabelVocabulary, a: Mapping[str, float], b: Mapping[str, float], *, alphas: Sequence[float]
) -> None:
    """Check that something lies between two statement sets for a model of this vocabulary.

    A class of statements counts with its largest grade, so two statements of one class do not mix linearly.

    Raises:
        LabelError: the sets share a class, or the model does not know a statement.
    """
    end, start = vocabulary.encode(a, strict=True), vocabulary.encode(b, strict=True)
    for alpha in alphas:
        mixed = vocabulary.encode(mix_statements(a, b, alpha=alpha))
        if not np.allclose(mixed, alpha * end + (1 - alpha) * start, atol=1e-6):
            raise LabelError(
                f"{format_statements(a)} and {format_statements(b)} share a class of the label set "
                f"{vocabulary.describe()}, so nothing lies between them for this model; choose other statements"
            )


def named_grades(result: Interpolation) -> dict[str, BeatSummary]:
    """The beats by the name of their grade: {"0": ..., "0.25": ..., "1": ...}."""
    return {f"{grade:g}": summary for grade, summary in zip(result.grades, result.beats, strict=True)}


def draw_interpolation(result: Interpolation, leads: Sequence[str] = ("II", "V1", "V5")) -> Figure:
    """The median beats of all grades over each other, from violet (b) to yellow-green (a), a panel a lead.

    Raises:
        ConfigError: no leads, or one twice.
        DataError: unknown lead.
    """
    figure, panels = beat_panels(leads)
    ends = {0.0: f" {format_statements(result.b)}", 1.0: f" {format_statements(result.a)}"}
    for lead, axes in panels.items():
        for grade, summary in zip(result.grades, result.beats, strict=True):
            axes.plot(
                1000 * summary.times_s,
                summary.median[summary.leads.index(lead)],
                color=colormaps["viridis"](0.85 * grade),
                linewidth=1.3,
                label=f"α = {grade:g}{ends.get(grade, '')} ({summary.beats} beats)",
            )
    add_legend(figure, panels, note=f"median beat of {len(result.records[0])} records a grade, the same noises in each")
    return figure
