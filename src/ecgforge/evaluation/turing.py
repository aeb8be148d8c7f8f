"""Scores of a reading kit: did the readers see the statements, and did they tell synthetic from real?

Two tables, as in the clinical Turing test of SSSD-ECG (arXiv 2301.08227): how often the statements were found
right, and how often an ECG was called synthetic, real and synthetic ECGs apart.

A reader's answer about the statements is *correct* where it equals the truth. On a sheet that shows its ECG's
own statements, as all sheets of a kit do, the truth is yes, so correct means confirmed. Published answers may
have sheets with foreign statements (y_true_diagnostic False); there the correct answer is no.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from ecgforge.config import to_dict
from ecgforge.errors import DataError
from ecgforge.evaluation.markdown import markdown_table

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Answer:
    """What a reader said of one sheet, and the truth.

    Attributes:
        trial: The sheet.
        statements: Statements it shows.
        own_statements: True if they are those of its ECG.
        synthetic: True if its ECG is synthetic.
        says_shown: The reader finds the statements in the ECG; None without an answer.
        says_synthetic: The reader holds the ECG to be synthetic; None without an answer.
    """

    trial: str
    statements: str
    own_statements: bool
    synthetic: bool
    says_shown: bool | None
    says_synthetic: bool | None

    @property
    def statements_correct(self) -> bool | None:
        """Whether the answer about the statements is right."""
        return None if self.says_shown is None else self.says_shown == self.own_statements

    @property
    def told_apart(self) -> bool | None:
        """Whether the answer about the origin is right."""
        return None if self.says_synthetic is None else self.says_synthetic == self.synthetic


@dataclass(frozen=True)
class Reading:
    """All answers of one reader."""

    reader: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Tally:
    """Answers to a yes/no question.

    Attributes:
        yes: How many.
        no: How many.
        missing: Sheets without an answer; they count in nothing below.
        share: yes / (yes + no), None without any answer.
        low: Lower end of the Wilson 95 % interval of the share.
        high: Its upper end.
    """

    yes: int
    no: int
    missing: int
    share: float | None
    low: float | None
    high: float | None

    @property
    def answered(self) -> int:
        """Number of answers."""
        return self.yes + self.no


@dataclass(frozen=True)
class ReaderScore:
    """One reader's tables, or those of all readers pooled.

    Attributes:
        reader: Name.
        statements_real: Real ECGs: statements answered correctly?
        statements_synthetic: Synthetic ECGs: statements answered correctly?
        judged_real: Real ECGs: called synthetic?
        judged_synthetic: Synthetic ECGs: called synthetic?
        told_apart: All ECGs: origin answered correctly?
        p_value: Exact two-sided binomial test of told_apart against 50 %; None without any answer.
    """

    reader: str
    statements_real: Tally
    statements_synthetic: Tally
    judged_real: Tally
    judged_synthetic: Tally
    told_apart: Tally
    p_value: float | None


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two readers, over the sheets both answered.

    Attributes:
        readers: Who.
        statements_kappa: On whether the ECG shows the statements; None where it is undefined.
        statements_sheets: Sheets with both answers.
        synthetic_kappa: On whether the ECG is synthetic.
        synthetic_sheets: Sheets with both answers.
    """

    readers: tuple[str, str]
    statements_kappa: float | None
    statements_sheets: int
    synthetic_kappa: float | None
    synthetic_sheets: int


@dataclass(frozen=True)
class TuringScore:
    """The result of a reading.

    Attributes:
        real: Number of real ECGs.
        synthetic: Number of synthetic ECGs.
        foreign_statements: Sheets that show statements other than their ECG's own.
        readers: One a reader.
        pooled: All answers together; None with one reader.
        agreement: Each pair of readers.
    """

    real: int
    synthetic: int
    foreign_statements: int
    readers: tuple[ReaderScore, ...]
    pooled: ReaderScore | None
    agreement: tuple[Agreement, ...]


def score_readings(readings: Sequence[Reading]) -> TuringScore:
    """Tables of each reader and of all together, and how far the readers agree.

    Raises:
        DataError: no readings, none with an answer, or the readers had different sheets.
    """
    if not any(reading.answers for reading in readings):
        raise DataError("expected the answers of at least one reader, got none")
    _require_same_sheets(readings)
    sheets = readings[0].answers
    everything = Reading("all readers", tuple(answer for reading in readings for answer in reading.answers))
    return TuringScore(
        real=sum(not sheet.synthetic for sheet in sheets),
        synthetic=sum(sheet.synthetic for sheet in sheets),
        foreign_statements=sum(not sheet.own_statements for sheet in sheets),
        readers=tuple(_reader_score(reading) for reading in readings),
        pooled=_reader_score(everything) if len(readings) > 1 else None,
        agreement=tuple(_agreement(left, right) for left, right in itertools.combinations(readings, 2)),
    )


def tally(answers: Sequence[bool | None]) -> Tally:
    """Counts, share and its Wilson 95 % interval.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    yes, no, missing = (sum(answer is kind for answer in answers) for kind in (True, False, None))
    if not yes + no:
        return Tally(yes, no, missing, None, None, None)
    interval = binomtest(yes, yes + no).proportion_ci(CONFIDENCE, method="wilson")
    return Tally(yes, no, missing, yes / (yes + no), float(interval.low), float(interval.high))


def cohens_kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Agreement of two readers beyond chance; None without pairs, or where chance alone makes them agree fully.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    if not pairs:
        return None
    left, right = (sum(pair[reader] for pair in pairs) / len(pairs) for reader in (0, 1))
    observed = sum(a == b for a, b in pairs) / len(pairs)
    by_chance = left * right + (1 - left) * (1 - right)
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def _require_same_sheets(readings: Sequence[Reading]) -> None:
    def sheets(reading: Reading) -> dict[str, tuple[str, bool, bool]]:
        return {entry.trial: (entry.statements, entry.own_statements, entry.synthetic) for entry in reading.answers}

    first = sheets(readings[0])
    for reading in readings[1:]:
        other = sheets(reading)
        if other != first:
            trial = next(trial for trial in {**first, **other} if first.get(trial) != other.get(trial))
            raise DataError(
                f"expected all readers to have had the same sheets, but trial {trial} differs between "
                f"{readings[0].reader} and {reading.reader}; score them one by one"
            )


def _reader_score(reading: Reading) -> ReaderScore:
    real = [answer for answer in reading.answers if not answer.synthetic]
    synthetic = [answer for answer in reading.answers if answer.synthetic]
    told_apart = tally([answer.told_apart for answer in reading.answers])
    return ReaderScore(
        reader=reading.reader,
        statements_real=tally([answer.statements_correct for answer in real]),
        statements_synthetic=tally([answer.statements_correct for answer in synthetic]),
        judged_real=tally([answer.says_synthetic for answer in real]),
        judged_synthetic=tally([answer.says_synthetic for answer in synthetic]),
        told_apart=told_apart,
        p_value=float(binomtest(told_apart.yes, told_apart.answered).pvalue) if told_apart.answered else None,
    )


def _agreement(left: Reading, right: Reading) -> Agreement:
    by_trial = {answer.trial: answer for answer in right.answers}
    both = [(answer, by_trial[answer.trial]) for answer in left.answers]

    def pairs(question: Callable[[Answer], bool | None]) -> list[tuple[bool, bool]]:
        said = [(question(a), question(b)) for a, b in both]
        return [(a, b) for a, b in said if a is not None and b is not None]

    statements = pairs(lambda answer: answer.says_shown)
    synthetic = pairs(lambda answer: answer.says_synthetic)
    return Agreement(
        readers=(left.reader, right.reader),
        statements_kappa=cohens_kappa(statements),
        statements_sheets=len(statements),
        synthetic_kappa=cohens_kappa(synthetic),
        synthetic_sheets=len(synthetic),
    )


# ---------------------------------------------------------------------------------------------- in words


@dataclass(frozen=True)
class TextTable:
    """A table ready to be shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def score_tables(score: TuringScore) -> tuple[TextTable, ...]:
    """The two tables of the paper, then accuracy, then agreement where there are several readers."""
    readers = (*score.readers, *((score.pooled,) if score.pooled else ()))
    counts = ("no answer", "share", "95 % interval")
    statements = [
        (reader.reader, origin, *_cells(tally_))
        for reader in readers
        for origin, tally_ in (("synthetic", reader.statements_synthetic), ("real", reader.statements_real))
    ]
    judged = [
        (reader.reader, origin, *_cells(tally_))
        for reader in readers
        for origin, tally_ in (("synthetic", reader.judged_synthetic), ("real", reader.judged_real))
    ]
    apart = [(reader.reader, *_cells(reader.told_apart), _number(reader.p_value, "{:.2g}")) for reader in readers]
    tables = [
        TextTable("Statements correct", ("reader", "ECGs", "correct", "not correct", *counts), tuple(statements)),
        TextTable("Judged synthetic", ("reader", "ECGs", "synthetic", "real", *counts), tuple(judged)),
        TextTable("Synthetic told from real", ("reader", "right", "wrong", *counts, "p against 50 %"), tuple(apart)),
    ]
    if score.agreement:
        agreement = tuple(
            (
                " and ".join(pair.readers),
                _kappa(pair.statements_kappa, pair.statements_sheets),
                _kappa(pair.synthetic_kappa, pair.synthetic_sheets),
            )
            for pair in score.agreement
        )
        columns = ("readers", "shows the statements", "is synthetic")
        tables.append(TextTable("Agreement (Cohen's kappa)", columns, agreement))
    return tuple(tables)


def score_notes(score: TuringScore) -> tuple[str, ...]:
    """What has to be known to read the tables."""
    notes = ["Shares are of the answers given; intervals are Wilson's; p is exact, binomial and two-sided."]
    for reader in score.readers:
        statements = reader.statements_real.missing + reader.statements_synthetic.missing
        if statements or reader.told_apart.missing:
            notes.append(
                f"{reader.reader} left {statements} sheets without an answer about the statements and "
                f"{reader.told_apart.missing} without one about the origin; they are left out of the shares."
            )
    if score.foreign_statements:
        notes.append(
            f"{score.foreign_statements} sheets show statements other than their ECG's own; there the correct "
            "answer is no."
        )
    if score.pooled:
        notes.append(
            "Pooled intervals and p take all answers as independent; readers of the same sheets are not, so they "
            "are too narrow."
        )
    return tuple(notes)


def score_markdown(score: TuringScore) -> str:
    """The tables and notes as Markdown."""
    lines = ["# Reading kit", "", f"{score.real} real and {score.synthetic} synthetic ECGs.", ""]
    for table in score_tables(score):
        lines += [f"## {table.title}", "", *markdown_table(table.columns, table.rows), ""]
    return "\n".join(lines + [f"- {note}" for note in score_notes(score)]) + "\n"


def score_json(score: TuringScore) -> str:
    """All numbers as JSON; what is undefined is null."""
    return json.dumps(to_dict(score), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cells(counts: Tally) -> tuple[str, str, str, str, str]:
    interval = "–" if counts.low is None or counts.high is None else f"{100 * counts.low:.1f}–{counts.high:.1%}"
    return str(counts.yes), str(counts.no), str(counts.missing), _number(counts.share, "{:.1%}"), interval


def _kappa(kappa: float | None, sheets: int) -> str:
    rounded = None if kappa is None else round(kappa, 2) + 0.0  # no "-0.00"
    return f"{_number(rounded, '{:.2f}')} ({sheets} sheets)"


def _number(value: float | None, pattern: str) -> str:
    return "–" if value is None else pattern.format(value)
