"""SNOMED CT codes, as the PhysioNet/CinC Challenges use them, and the ECG statements they obviously are.

Codes without one clear counterpart among the 71 statements (left axis deviation, infarction without a place,
...) are absent, and reported where they occur.

Source: PhysioNet/CinC Challenge 2020 and 2021, dx_mapping_scored.csv and dx_mapping_unscored.csv; as the
Challenges do, complete and unspecified bundle branch block count as one, and so do the two names of premature
beats. "Electrocardiogram normal", which the Challenges do not list, is SNOMED CT's own name.
"""

from functools import cache

# Where several codes mean one statement, the first is the one to write.
STATEMENT_BY_SNOMED = {
    "270492004": "1AVB",  # first degree AV block
    "195042002": "2AVB",  # second degree AV block
    "54016002": "2AVB",  # Mobitz type I (Wenckebach)
    "426183003": "2AVB",  # Mobitz type II
    "27885002": "3AVB",  # complete heart block
    "164951009": "ABQRS",  # abnormal QRS
    "164889003": "AFIB",  # atrial fibrillation
    "164890007": "AFLT",  # atrial flutter
    "733534002": "CLBBB",  # complete left bundle branch block
    "164909002": "CLBBB",  # left bundle branch block
    "713427006": "CRBBB",  # complete right bundle branch block
    "59118001": "CRBBB",  # right bundle branch block
    "251120003": "ILBBB",  # incomplete left bundle branch block
    "713426002": "IRBBB",  # incomplete right bundle branch block
    "59931005": "INVT",  # T wave inversion
    "698252002": "IVCD",  # nonspecific intraventricular conduction disorder
    "445118002": "LAFB",  # left anterior fascicular block
    "445211001": "LPFB",  # left posterior fascicular block
    "67741000119109": "LAO/LAE",  # left atrial enlargement
    "111975006": "LNGQT",  # prolonged QT interval
    "164947007": "LPR",  # prolonged PR interval
    "164873001": "LVH",  # left ventricular hypertrophy
    "251146004": "LVOLT",  # low QRS voltages
    "284470004": "PAC",  # premature atrial contraction
    "63593006": "PAC",  # supraventricular premature beats
    "10370003": "PACE",  # pacing rhythm
    "67198005": "PSVT",  # paroxysmal supraventricular tachycardia
    "427172004": "PVC",  # premature ventricular contractions
    "17338001": "PVC",  # ventricular premature beats
    "164854000": "NORM",  # electrocardiogram normal
    "164917005": "QWAVE",  # Q wave abnormal
    "89792004": "RVH",  # right ventricular hypertrophy
    "427393009": "SARRH",  # sinus arrhythmia
    "426177001": "SBRAD",  # sinus bradycardia
    "426783006": "SR",  # sinus rhythm
    "427084000": "STACH",  # sinus tachycardia
    "426761007": "SVTAC",  # supraventricular tachycardia
    "164934002": "TAB_",  # T wave abnormal
    "74390002": "WPW",  # Wolff-Parkinson-White pattern
}


@cache
def _snomed_by_statement() -> dict[str, str]:
    codes: dict[str, str] = {}
    for code, statement in STATEMENT_BY_SNOMED.items():
        codes.setdefault(statement, code)
    return codes


def snomed_code(statement: str) -> str | None:
    """The SNOMED CT code of an SCP-ECG statement code: "AFIB" -> "164889003"; None where there is no clear one."""
    return _snomed_by_statement().get(statement)
