"""ECG statements: the numbers of PTB-XL's label sets, parsing, label vectors, mismatches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgforge.errors import LabelError
from ecgforge.labels import (
    LABEL_SETS,
    all_statements,
    format_statements,
    parse_statements,
    read_statements,
    statement,
    vocabulary,
)

CODES = tuple(all_statements())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("all", 71),
        ("diagnostic", 44),
        ("subdiagnostic", 23),
        ("superdiagnostic", 5),
        ("form", 19),
        ("rhythm", 12),
    ],
)
def test_label_sets_have_the_published_sizes(name, size):
    labels = vocabulary(name).labels
    assert len(labels) == len(set(labels)) == len(vocabulary(name)) == size


def test_canonical_order_is_alphabetical():
    assert CODES[:6] == ("1AVB", "2AVB", "3AVB", "ABQRS", "AFIB", "AFLT")
    assert all(vocabulary(name).labels == tuple(sorted(vocabulary(name).labels)) for name in LABEL_SETS)


def test_superclasses_are_the_five():
    assert vocabulary("superdiagnostic").labels == ("CD", "HYP", "MI", "NORM", "STTC")


@pytest.mark.parametrize(
    ("code", "subclass", "superclass", "groups"),
    [
        ("IMI", "IMI", "MI", ("diagnostic",)),
        ("CLBBB", "CLBBB", "CD", ("diagnostic",)),
        ("ILMI", "IMI", "MI", ("diagnostic",)),
        ("LVH", "LVH", "HYP", ("diagnostic",)),
        ("NORM", "NORM", "NORM", ("diagnostic",)),
        ("AFIB", "", "", ("rhythm",)),
        ("NDT", "STTC", "STTC", ("diagnostic", "form")),
        ("LVOLT", "", "", ("form",)),
    ],
)
def test_classes_of_known_statements(code, subclass, superclass, groups):
    entry = statement(code)
    assert (entry.subclass, entry.superclass, entry.groups) == (subclass, superclass, groups)


def test_groups_cover_all_and_share_the_four_of_diagnostic_and_form():
    entries = all_statements().values()
    assert all(entry.groups for entry in entries)
    shared = {entry.code for entry in entries if len(entry.groups) > 1}
    assert shared == {"NDT", "NST_", "DIG", "LNGQT"}
    assert 44 + 19 + 12 - len(shared) == 71


def test_only_diagnostic_statements_have_classes():
    for entry in all_statements().values():
        diagnostic = "diagnostic" in entry.groups
        assert (bool(entry.subclass), bool(entry.superclass)) == (diagnostic, diagnostic)


def test_code_is_found_in_any_case_and_unknown_ones_are_answered_with_the_nearest():
    assert statement(" clbbb ").code == "CLBBB"
    with pytest.raises(LabelError, match=r"'CLBB'; did you mean CLBBB"):
        statement("CLBB")


@given(st.dictionaries(st.sampled_from(CODES), st.sampled_from([1.0, 0.5, 0.25, 0.1]), min_size=1, max_size=8))
def test_parse_inverts_format(statements):
    parsed = parse_statements(format_statements(statements))
    assert parsed == statements
    assert list(parsed) == list(statements)


def test_parse_reads_grades_spaces_and_case():
    assert parse_statements(" imi:0.5, SR ") == {"IMI": 0.5, "SR": 1.0}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "NORM,SR"),
        (" , ", "NORM,SR"),
        ("SR,sr", "SR twice"),
        ("IMI:0", "IMI:0"),
        ("IMI:1.5", "at most 1"),
        ("IMI:much", "IMI:much"),
        ("IMI:nan", "IMI:nan"),
        ("XYZ9", "unknown ECG statement 'XYZ9'"),
    ],
)
def test_parse_refuses(text, part):
    with pytest.raises(LabelError, match=part):
        parse_statements(text)


@given(st.dictionaries(st.sampled_from(CODES), st.sampled_from([1.0, 0.5, 0.25]), max_size=8))
def test_decode_inverts_encode(statements):
    assert vocabulary().decode(vocabulary().encode(statements)) == statements


def test_encode_sets_the_statements_column_only():
    vector = vocabulary().encode({"IMI": 0.5, "SR": 1.0})
    assert vector.dtype == np.float32
    assert vector.sum() == 1.5
    assert (vector[CODES.index("IMI")], vector[CODES.index("SR")]) == (0.5, 1.0)


def test_aggregated_sets_take_the_largest_grade_of_a_class():
    grades = {"IMI": 0.25, "ILMI": 0.75, "CLBBB": 1.0, "SR": 1.0}
    assert vocabulary("superdiagnostic").decode(vocabulary("superdiagnostic").encode(grades)) == {
        "CD": 1.0,
        "MI": 0.75,
    }
    assert vocabulary("subdiagnostic").decode(vocabulary("subdiagnostic").encode(grades)) == {
        "CLBBB": 1.0,
        "IMI": 0.75,
    }


def test_strict_encoding_names_what_does_not_fit():
    assert vocabulary("rhythm").encode({"SR": 1.0, "IMI": 1.0}).sum() == 1.0
    with pytest.raises(LabelError, match=r"'rhythm' \(12 labels.*got IMI"):
        vocabulary("rhythm").encode({"SR": 1.0, "IMI": 1.0}, strict=True)


@pytest.mark.parametrize(
    ("name", "example"), [("all", "NORM,SR"), ("superdiagnostic", "NORM"), ("rhythm", "SR"), ("form", "ABQRS")]
)
def test_every_label_set_has_an_example_that_it_knows(name, example):
    assert vocabulary(name).example() == example
    assert vocabulary(name).encode(parse_statements(example), strict=True).sum() >= 1


def test_mappings_are_read_as_strictly_as_texts():
    assert read_statements({"imi": 0.5, "SR": 1}) == read_statements("IMI:0.5,SR") == {"IMI": 0.5, "SR": 1.0}
    for refused, part in [({"SR": 0.0}, "grades above 0"), ({"SR": 1.0, "sr": 0.5}, "each once"), ({}, "one or more")]:
        with pytest.raises(LabelError, match=part):
            read_statements(refused)


def test_unknown_statement_is_never_left_out_silently():
    with pytest.raises(LabelError, match="NORMAL"):
        vocabulary("rhythm").encode({"NORMAL": 1.0})


def test_unknown_label_set_is_refused_with_a_suggestion():
    with pytest.raises(LabelError, match=r"did you mean .*diagnostic"):
        vocabulary("diagnostics")
