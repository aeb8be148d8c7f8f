"""The ECG statements a model is asked for: 71 SCP-ECG codes, their groups, and the label vectors made of them.

The canonical order is alphabetical by code (1AVB, 2AVB, 3AVB, ABQRS, AFIB, ...), as in SSSD-ECG
(arXiv 2301.08227). Codes, groups and classes are those of PTB-XL (Wagner et al. 2020, Table 3 and
scp_statements.csv). A vocabulary travels with every store and every model.
"""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from jaxtyping import Float

from ecgforge.errors import LabelError

Statements = str | Mapping[str, float]

GROUPS = ("diagnostic", "form", "rhythm")
LABEL_SETS = ("all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm")
_CLASSES = ("subdiagnostic", "superdiagnostic")  # sets whose labels stand for several statements


@dataclass(frozen=True)
class Statement:
    """One SCP-ECG statement.

    Attributes:
        code: SCP-ECG code, e.g. "CLBBB".
        description: Plain English.
        groups: Which of diagnostic, form, rhythm it belongs to (a few belong to two).
        subclass: Diagnostic subclass ("" outside the diagnostic group).
        superclass: Diagnostic superclass NORM, MI, STTC, CD or HYP ("" outside the diagnostic group).
    """

    code: str
    description: str
    groups: tuple[str, ...]
    subclass: str
    superclass: str


@cache
def all_statements() -> dict[str, Statement]:
    """The 71 statements by code, in canonical order."""
    text = resources.files("ecgforge").joinpath("statements.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["code"]: Statement(
            code=row["code"],
            description=row["description"],
            groups=tuple(row["groups"].split()),
            subclass=row["subclass"],
            superclass=row["superclass"],
        )
        for row in rows
    }


def statement(code: str) -> Statement:
    """The statement with this code, upper or lower case.

    Raises:
        LabelError: no such statement; the message suggests the nearest ones.
    """
    known = all_statements()
    wanted = code.strip().upper()
    if wanted not in known:
        raise LabelError(f"unknown ECG statement {code!r}{_suggest(wanted, known)}; `ecgforge statements` lists all")
    return known[wanted]


def _suggest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def parse_statements(text: str) -> dict[str, float]:
    """Statements with grades from "IMI:0.5,SR" -> {"IMI": 0.5, "SR": 1.0}.

    Raises:
        LabelError: unknown statement, one given twice, or a grade outside (0, 1].
    """
    grades: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, grade_text = item.partition(":")
        code = statement(name).code
        if code in grades:
            raise LabelError(f"expected each statement once, got {code} twice in {text!r}")
        grades[code] = _parse_grade(grade_text, item) if grade_text else 1.0
    if not grades:
        raise LabelError(f"expected statements such as NORM,SR or IMI:0.5,SR, got {text!r}")
    return grades


def read_statements(statements: Statements) -> dict[str, float]:
    """A statement set as text, "NORM,SR", or as a mapping, {"NORM": 1.0}, in the spelling of the standard.

    Raises:
        LabelError: as parse_statements, for a mapping alike.
    """
    if isinstance(statements, str):
        return parse_statements(statements)
    bad = {name: grade for name, grade in statements.items() if not 0 < grade <= 1}
    if bad:
        raise LabelError(f"expected grades above 0 and at most 1, got {bad}")
    grades = {statement(name).code: float(grade) for name, grade in statements.items()}
    if not grades or len(grades) < len(statements):
        raise LabelError(f"expected one or more statements, each once, got {dict(statements)}")
    return grades


def _parse_grade(text: str, item: str) -> float:
    try:
        grade = float(text)
    except ValueError:
        grade = float("nan")
    if not 0 < grade <= 1:
        raise LabelError(f"expected a grade above 0 and at most 1 after the colon, got {item!r}")
    return grade


def format_statements(statements: Mapping[str, float]) -> str:
    """Inverse of parse_statements: {"IMI": 0.5, "SR": 1.0} -> "IMI:0.5,SR"."""
    return ",".join(code if grade == 1 else f"{code}:{grade:g}" for code, grade in statements.items())


@dataclass(frozen=True)
class LabelVocabulary:
    """An ordered set of labels and the map from statements to label vectors.

    Attributes:
        name: One of LABEL_SETS for the standard sets, or "custom".
        labels: The columns, in order.
    """

    name: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def label_of(self, code: str) -> str | None:
        """The label a statement counts towards in this vocabulary, None where it does not count."""
        known = statement(code)
        aggregate = {"subdiagnostic": known.subclass, "superdiagnostic": known.superclass}.get(self.name, known.code)
        return aggregate if aggregate in self.labels else None

    def example(self) -> str:
        """A statement set that can be asked for here: a normal ECG where that is known, else any statement."""
        known = [code for code in ("NORM", "SR") if self.label_of(code)]
        return ",".join(known or [next(code for code in all_statements() if self.label_of(code))])

    def encode(
        self, statements: Mapping[str, float], *, strict: bool = False, others: Literal["absent", "unknown"] = "absent"
    ) -> Float[np.ndarray, " K"]:
        """Label vector of statements with grades; several statements of one subclass count with the largest grade.

        Args:
            statements: Code -> grade from 0 (known to be absent) to 1. In a set of classes a grade of 0 says nothing:
                one absent statement does not make its class absent.
            strict: Refuse statements that this vocabulary has no column for, instead of leaving them out.
            others: What the labels are that no statement counts towards: absent (0) or unknown (NaN).

        Raises:
            LabelError: a statement does not exist, or `strict` and one is outside the vocabulary.
        """
        vector = np.full(len(self), np.nan if others == "unknown" else 0.0, dtype=np.float32)
        outside = []
        for code, grade in statements.items():
            label = self.label_of(code)
            if label is None:
                outside.append(code)
            elif grade > 0 or self.name not in _CLASSES:
                column = self.labels.index(label)
                vector[column] = np.fmax(vector[column], grade)  # fmax: any grade is more than unknown
        if strict and outside:
            raise LabelError(f"expected statements of the label set {self.describe()}, got {' '.join(outside)}")
        return vector

    def decode(self, vector: Float[np.ndarray, " K"]) -> dict[str, float]:
        """Labels with their grade where it is above 0; absent and unknown ones (NaN) are left out."""
        return {label: float(grade) for label, grade in zip(self.labels, vector, strict=True) if grade > 0}

    def describe(self) -> str:
        """Short text for messages: name, size and ends of the vocabulary."""
        return f"{self.name!r} ({len(self)} labels, {self.labels[0]} ... {self.labels[-1]})"


def vocabulary(name: str = "all") -> LabelVocabulary:
    """One of the standard label sets: all 71, diagnostic 44, subdiagnostic 23, superdiagnostic 5, form 19, rhythm 12.

    Raises:
        LabelError: no such label set.
    """
    known = all_statements().values()
    if name == "all":
        labels = [entry.code for entry in known]
    elif name in GROUPS:
        labels = [entry.code for entry in known if name in entry.groups]
    elif name == "subdiagnostic":
        labels = sorted({entry.subclass for entry in known if entry.subclass})
    elif name == "superdiagnostic":
        labels = sorted({entry.superclass for entry in known if entry.superclass})
    else:
        raise LabelError(
            f"expected a label set out of {', '.join(LABEL_SETS)}, got {name!r}{_suggest(name, LABEL_SETS)}"
        )
    return LabelVocabulary(name=name, labels=tuple(labels))


def custom_vocabulary(codes: Sequence[str]) -> LabelVocabulary:
    """A label set of one's own: these statements, in this order.

    Raises:
        LabelError: no statement, an unknown one, or one given twice.
    """
    labels = tuple(statement(code).code for code in codes)
    if not labels or len(set(labels)) < len(labels):
        raise LabelError(f"expected one or more different statements, got {' '.join(codes) or 'none'}")
    return LabelVocabulary(name="custom", labels=labels)
