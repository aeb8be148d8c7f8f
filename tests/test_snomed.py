"""SNOMED CT codes and the statements they mean."""

from ecgforge.labels import all_statements
from ecgforge.snomed import STATEMENT_BY_SNOMED, snomed_code


def test_a_code_written_for_a_statement_reads_back_as_that_statement() -> None:
    written = {code: snomed_code(code) for code in all_statements()}
    assert all(STATEMENT_BY_SNOMED[concept] == code for code, concept in written.items() if concept)
    assert {code for code, concept in written.items() if concept} == set(STATEMENT_BY_SNOMED.values())


def test_of_several_codes_the_particular_one_is_written() -> None:
    assert snomed_code("CLBBB") == "733534002"  # complete left bundle branch block
    assert snomed_code("2AVB") == "195042002"  # second degree AV block, neither Mobitz type
    assert snomed_code("PVC") == "427172004"
    assert snomed_code("IMI") is None
