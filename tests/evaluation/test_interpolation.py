"""Interpolation: the same noise in every grade, ends that are plain generation, and mixes that the model can tell."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import TINY_NETWORK

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.evaluation.beats import summarise_beats
from ecgforge.evaluation.interpolation import draw_interpolation, interpolate, mix_statements, named_grades
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.models.sssd import SssdEcg
from ecgforge.r_peaks import find_r_peaks
from ecgforge.sampling import SamplingOptions

QUICK = SamplingOptions(sampler="ddim", steps=3)
NETWORK = replace(TINY_NETWORK, length=200)  # 2 s: room for beats


def tiny_generator(*, label_set: str = "all", length: int = 200, statement_weight: float = 3.0) -> Generator:
    """A tiny network with random weights: nothing like an ECG, but everything else is real."""
    torch.manual_seed(3)
    labels = vocabulary(label_set).labels
    shape = replace(NETWORK, length=length)
    config = ModelConfig(
        name="tiny",
        network=replace(shape, labels=len(labels)),
        schedule=LinearSchedule(),
        label_set=label_set,
        labels=labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    network = SssdEcg(config.network)
    torch.nn.init.normal_(network.output.weight, std=0.3)
    torch.nn.init.normal_(network.statements.weight, std=statement_weight)
    return Generator(Model(config=config, network=network))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


def signals(records: object) -> np.ndarray:
    return np.stack([record.signal for record in records])


def test_mixing_statements() -> None:
    a, b = {"NORM": 1.0, "SR": 1.0}, {"IMI": 0.6, "SR": 1.0}
    assert mix_statements(a, b, alpha=1) == a
    assert mix_statements(a, b, alpha=0) == b
    assert mix_statements(a, b, alpha=0.25) == pytest.approx({"NORM": 0.25, "SR": 1.0, "IMI": 0.45})
    # Rounding must not push a grade above 1.
    assert all(mix_statements(a, b, alpha=alpha)["SR"] <= 1 for alpha in np.linspace(0, 1, 101))
    with pytest.raises(ConfigError, match=r"from 0 to 1, got 1\.5"):
        mix_statements(a, b, alpha=1.5)


def test_ends_are_plain_generation(generator: Generator) -> None:
    result = interpolate(generator, "NORM,SR", "CLBBB,SR", n=3, seed=7, options=QUICK)
    assert result.grades == (0.0, 0.25, 0.5, 0.75, 1.0)
    for row, statements in ((0, "CLBBB,SR"), (-1, "NORM,SR")):
        plain = generator.sample(statements, n=3, seed=7, options=QUICK)
        assert np.array_equal(signals(result.records[row]), signals(plain))
        assert result.records[row][1].statements == plain[1].statements
    assert result.records[2][0].statements == {"NORM": 0.5, "SR": 1.0, "CLBBB": 0.5}


def test_every_grade_begins_with_the_same_noise() -> None:
    """Where the network does not hear the condition, only the noise is left: all grades are the same records."""
    deaf = tiny_generator(statement_weight=0.0)
    rows = [signals(row) for row in interpolate(deaf, "NORM,SR", "AFIB", n=2, seed=1, options=QUICK).records]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    assert not np.array_equal(rows[0][0], rows[0][1])


def test_grades_lie_in_order_between_the_ends(generator: Generator) -> None:
    result = interpolate(generator, {"NORM": 1.0}, {"AFIB": 1.0}, n=2, seed=1, options=QUICK)
    rows = np.stack([signals(row) for row in result.records])
    from_b = np.abs(rows - rows[0]).mean(axis=(1, 2, 3))
    assert from_b[0] == 0 and (np.diff(from_b) > 0).all()


def test_beats_are_those_of_each_grade(generator: Generator) -> None:
    result = interpolate(generator, "NORM,SR", "AFIB", grades=(0.5, 0.0), n=3, seed=2, options=QUICK)
    assert len(result.records) == len(result.beats) == 2
    for records, summary in zip(result.records, result.beats, strict=True):
        expected = summarise_beats(records)
        assert summary.records == 3
        assert summary.beats == expected.beats <= sum(len(find_r_peaks(record)) for record in records)
        assert np.array_equal(summary.median, expected.median, equal_nan=True)
    assert list(named_grades(result)) == ["0.5", "0"]


def test_figure_has_a_line_a_grade(generator: Generator) -> None:
    result = interpolate(generator, "NORM,SR", "AFIB", n=3, seed=2, options=QUICK)
    figure = draw_interpolation(result, ("V1",))
    lines = {str(line.get_label()): line for line in figure.axes[0].lines if str(line.get_label()).startswith("α")}
    assert [label.split(" (")[0] for label in lines] == [
        "α = 0 AFIB", "α = 0.25", "α = 0.5", "α = 0.75", "α = 1 NORM,SR",
    ]  # fmt: skip
    last = list(lines.values())[-1].get_ydata()
    assert np.array_equal(last, result.beats[-1].median[STANDARD_LEADS.index("V1")], equal_nan=True)


def test_progress_counts_all_grades(generator: Generator) -> None:
    calls: list[tuple[int, int]] = []
    interpolate(generator, "NORM", "AFIB", n=2, options=QUICK, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5 * 2 * 3, 5 * 2 * 3)


def test_wrong_wishes_are_refused(generator: Generator) -> None:
    with pytest.raises(ConfigError, match="got 0 and 5"):
        interpolate(generator, "NORM", "AFIB", n=0)
    with pytest.raises(ConfigError, match="from 0 to 1, got -0.5"):
        interpolate(generator, "NORM", "AFIB", grades=(-0.5, 1.0))
    with pytest.raises(LabelError, match="did you mean AFIB"):
        interpolate(generator, "NORM", "AFIBB")
    with pytest.raises(LabelError, match=r"got \{'AFIB': 1\.5\}"):
        interpolate(generator, "NORM", {"AFIB": 1.5})
    with pytest.raises(DataError, match="got 64 samples at 100 Hz"):
        interpolate(tiny_generator(length=64), "NORM", "AFIB")


def test_two_statements_of_one_class_cannot_be_mixed() -> None:
    """In the five superclasses both infarcts are MI: half of each would be half an MI, not a whole one."""
    classes = tiny_generator(label_set="superdiagnostic")
    with pytest.raises(LabelError, match="IMI and AMI share a class"):
        interpolate(classes, "IMI", "AMI", options=QUICK)
    assert len(interpolate(classes, "IMI", "NORM", n=1, options=QUICK).records) == 5
