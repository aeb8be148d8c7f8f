"""HL7 aECG: inverse, what ecgdatakit sees, foreign files, damage and hostile XML."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from independent import assert_same_signal, read_independently

from ecgforge.errors import DataError, LabelError
from ecgforge.formats import aecg
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")
HL7 = {"v3": "urn:hl7-org:v3"}

FOREIGN = """<?xml version="1.0" encoding="UTF-8"?>
<!-- of a recorder -->
<hl7:AnnotatedECG xmlns:hl7="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <hl7:componentOf><hl7:timepointEvent><hl7:componentOf><hl7:subjectAssignment><hl7:subject><hl7:trialSubject>
    <hl7:id root="1.2.3" extension="S-9"/>
    <hl7:subjectDemographicPerson><hl7:administrativeGenderCode code="F"/></hl7:subjectDemographicPerson>
  </hl7:trialSubject></hl7:subject></hl7:subjectAssignment></hl7:componentOf></hl7:timepointEvent></hl7:componentOf>
  <hl7:controlVariable><hl7:relatedObservation>
    <hl7:code code="21612-7" codeSystem="2.16.840.1.113883.6.1"/><hl7:value xsi:type="PQ" value="34" unit="a"/>
  </hl7:relatedObservation></hl7:controlVariable>
  <hl7:component><hl7:series><hl7:code code="RHYTHM"/>
    <hl7:component><hl7:sequenceSet>
      <hl7:component><hl7:sequence><hl7:code code="TIME_ABSOLUTE"/>
        <hl7:value xsi:type="GLIST_TS"><hl7:head value="20020122091000.000"/>
        <hl7:increment value="2" unit="ms"/></hl7:value></hl7:sequence></hl7:component>
      <hl7:component><hl7:sequence><hl7:code code="MDC_ECG_LEAD_II"/>
        <hl7:value xsi:type="SLIST_PQ"><hl7:origin value="10" unit="uV"/><hl7:scale value="2.5" unit="uV"/>
        <hl7:digits>0 4 -4
          400</hl7:digits></hl7:value></hl7:sequence></hl7:component>
      <hl7:component><hl7:sequence><hl7:code code="MDC_ECG_LEAD_AVF"/>
        <hl7:value xsi:type="SLIST_PQ"><hl7:origin value="0" unit="mV"/><hl7:scale value="0.5" unit="mV"/>
        <hl7:digits>1 2 3 -1.5</hl7:digits></hl7:value></hl7:sequence></hl7:component>
    </hl7:sequenceSet></hl7:component>
  </hl7:series></hl7:component>
  <hl7:component><hl7:series><hl7:code code="REPRESENTATIVE_BEAT"/></hl7:series></hl7:component>
</hl7:AnnotatedECG>
"""


@pytest.mark.parametrize(("rate", "samples"), [(500.0, 300), (257.14, 7), (1000.0, 1), (360.0, 100), (0.3, 2)])
def test_samples_and_rate_come_back(tmp_path: Path, rate: float, samples: int) -> None:
    signal = np.random.default_rng(1).normal(size=(2, samples)).astype(np.float32)
    back = aecg.read(aecg.write(EcgRecord(signal=signal, rate=rate, leads=("aVR", "V1")), tmp_path / "a"))
    assert np.abs(back.signal - signal).max() <= 0.5e-3 + 1e-6
    assert (back.rate, back.leads) == (rate, ("aVR", "V1"))


def test_everything_else_comes_back(tmp_path: Path, record: EcgRecord) -> None:
    back = aecg.read(aecg.write(record, tmp_path / "a.b"))
    assert (tmp_path / "a.b.xml").is_file()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_texts_that_xml_cannot_hold_come_back(tmp_path: Path) -> None:
    patient = Patient(patient_id="a\x00<b>&\ud7ff \u2028]]>")
    record = EcgRecord(signal=np.zeros((1, 2), np.float32), rate=100.0, leads=("I",), patient=patient)
    assert aecg.read(aecg.write(record, tmp_path / "a")).patient == patient


def test_the_xml_says_what_the_guide_asks_for(tmp_path: Path, record: EcgRecord) -> None:
    root = ET.parse(aecg.write(record, tmp_path / "a")).getroot()
    assert root.tag == "{urn:hl7-org:v3}AnnotatedECG"
    assert root.findtext("v3:text", "", HL7).startswith("SYNTHETIC")
    codes = [code.get("code", "") for code in root.iterfind(".//v3:sequence/v3:code", HL7)]
    assert codes == ["TIME_RELATIVE", *(f"MDC_ECG_LEAD_{lead.upper()}" for lead in STANDARD_LEADS)]
    scales = [(scale.get("value"), scale.get("unit")) for scale in root.iterfind(".//v3:scale", HL7)]
    assert scales == [("1", "uV")] * 12
    digits = root.findtext(".//v3:digits", "", HL7).split()
    assert digits == [str(round(1000 * float(value))) for value in record.signal[0]]
    nested = ".//v3:annotation/v3:component/v3:annotation/v3:component/v3:annotation/v3:code"
    found = [(code.get("code"), code.get("codeSystem")) for code in root.iterfind(nested, HL7)]
    assert found == [("164854000", "2.16.840.1.113883.6.96"), ("426783006", "2.16.840.1.113883.6.96")]


def test_ecgdatakit_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    found = read_independently(aecg.write(record, tmp_path / "a"))
    assert_same_signal(found, record)
    assert (found.patient.last_name, found.patient.patient_id, found.patient.sex) == ("SYNTHETIC", "p 4", "F")
    assert found.patient.age == 56
    assert found.interpretation.statements == [
        ("NORM: normal ECG (SNOMED CT 164854000), grade 0.5", ""),
        ("SR: sinus rhythm (SNOMED CT 426783006)", ""),
    ]
    assert found.raw_metadata["related_observations"]["synthetic"] == "yes"


def test_a_measured_record_is_not_called_synthetic(tmp_path: Path, record: EcgRecord) -> None:
    path = aecg.write(EcgRecord(signal=record.signal, rate=100.0), tmp_path / "a")
    assert "SYNTHETIC" not in path.read_text() and not aecg.read(path).provenance.synthetic


def test_the_same_record_gives_the_same_file(tmp_path: Path, record: EcgRecord) -> None:
    assert aecg.write(record, tmp_path / "a").read_bytes() == aecg.write(record, tmp_path / "b").read_bytes()


def _foreign(folder: Path, *changes: tuple[str, str]) -> Path:
    text = FOREIGN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "foreign.xml"
    path.write_text(text)
    return path


def test_a_foreign_file(tmp_path: Path) -> None:
    back = aecg.read(_foreign(tmp_path))
    assert (back.leads, back.rate, back.record_id) == (("II", "aVF"), 500.0, "foreign")
    np.testing.assert_allclose(back.signal, [[0.01, 0.02, 0.0, 1.01], [0.5, 1, 1.5, -0.75]], atol=1e-7)
    assert back.patient == Patient(patient_id="S-9", age=34.0, sex="female")
    assert not back.provenance.synthetic and back.statements == {}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("AnnotatedECG", "restingecgdata", "got 'restingecgdata'"),
        ("REPRESENTATIVE_BEAT", "RHYTHM", None),
        ("RHYTHM", "REPRESENTATIVE_BEAT", "one rhythm series with one set of sequences, got 0"),
        ("MDC_ECG_LEAD_AVF", "MDC_ECG_LEAD_V3R", "V3R"),
        ("MDC_ECG_LEAD_AVF", "MDC_ECG_LEAD_II", "II more than once"),
        ("1 2 3 -1.5", "1 2 3", "one length, got 3, 4 samples"),
        ("1 2 3 -1.5", "1 2 x -1.5", "digits of lead aVF"),
        ("1 2 3 -1.5", "1 2 nan -1.5", "1 missing ones in lead aVF"),
        ("1 2 3 -1.5", "1 2 1e999 -1.5", "1 missing ones in lead aVF"),
        ("0 4 -4\n          400", "", "one length"),
        ('value="0.5" unit="mV"', 'value="0.5" unit="mmHg"', "'mmHg'"),
        ('scale value="0.5"', 'scale value="half"', "number as the scale of MDC_ECG_LEAD_AVF"),
        ("hl7:origin", "hl7:start", "number as the origin"),
        ('increment value="2"', 'increment value="0"', "time increment above 0"),
        ('unit="ms"', 'unit="fortnight"', "'fortnight'"),
        ("TIME_ABSOLUTE", "MDC_ECG_LEAD_I", "number as the scale"),
        ("</hl7:series>", "", "cannot read it"),
        ('encoding="UTF-8"', 'encoding="klingon"', "cannot read it"),
    ],
)
def test_refuses_damage_and_names_the_file(tmp_path: Path, old: str, new: str, complaint: str | None) -> None:
    path = _foreign(tmp_path, (old, new))
    if complaint is None:  # a second rhythm series without sequences does no harm
        assert aecg.read(path).leads == ("II", "aVF")
        return
    with pytest.raises(DataError, match=complaint) as caught:
        aecg.read(path)
    assert "foreign.xml" in str(caught.value)


def test_refuses_two_recordings(tmp_path: Path) -> None:
    series = FOREIGN[FOREIGN.index("  <hl7:component><hl7:series>") : FOREIGN.rindex("  <hl7:component><hl7:series>")]
    with pytest.raises(DataError, match="one rhythm series with one set of sequences, got 2"):
        aecg.read(_foreign(tmp_path, (series, series * 2)))


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE x>",
        f'<!DOCTYPE x [<!ENTITY a0 "ha">{BOMB}]>',
        '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x SYSTEM "http://example.invalid/x.dtd">',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_refuses_every_document_type(tmp_path: Path, doctype: str, encoding: str) -> None:
    body = FOREIGN.partition("?>")[2].replace("1 2 3 -1.5", "&a9;&secret;")
    path = tmp_path / "bomb.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{doctype}{body}'.encode(encoding))
    with pytest.raises(DataError, match=r"bomb\.xml: expected no document type declaration"):
        aecg.read(path)


def test_refuses_endless_nesting(tmp_path: Path) -> None:
    path = tmp_path / "deep.xml"
    path.write_text("<AnnotatedECG>" + "<a>" * 1_500 + "</a>" * 1_500 + "</AnnotatedECG>")
    with pytest.raises(DataError, match=r"deep\.xml"):
        aecg.read(path)


@pytest.mark.parametrize("length", [0, 50, 900, -1])
def test_refuses_a_truncated_file(tmp_path: Path, record: EcgRecord, length: int) -> None:
    path = aecg.write(record, tmp_path / "a")
    path.write_bytes(path.read_bytes()[:length] if length >= 0 else path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"a\.xml: expected XML, and cannot read it"):
        aecg.read(path)


def test_refuses_an_unknown_statement(tmp_path: Path, record: EcgRecord) -> None:
    path = aecg.write(record, tmp_path / "a")
    path.write_text(path.read_text().replace("NORM:0.5", "NORMAL"))
    with pytest.raises(LabelError, match=r"a\.xml: .*NORMAL"):
        aecg.read(path)
