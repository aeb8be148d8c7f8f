"""What each statement does to a healthy heart, by the criteria a reader of ECGs looks for.

Criteria as in Surawicz and Knilans, Chou's Electrocardiography in Clinical Practice, 6th ed. (2008).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ecgforge.data.heart import (
    FLUTTER_HZ,
    LEFT_BLOCK_STROKES,
    PACED_STROKES,
    RIGHT_BLOCK_STROKE,
    Heart,
    Stroke,
    qrs_leads,
    scale_qrs,
    sokolow_lyon,
)
from ecgforge.leads import LIMB_LEADS

Change = Callable[[Heart, np.random.Generator], Heart]


def _unchanged(heart: Heart, _: np.random.Generator) -> Heart:
    return heart


def _bradycardia(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, heart_rate=stream.uniform(42, 56))


def _tachycardia(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, heart_rate=stream.uniform(105, 130), pr=stream.uniform(0.12, 0.15))


def _sinus_arrhythmia(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, respiratory_share=stream.uniform(0.14, 0.22), respiration=stream.uniform(0.12, 0.2))


def _fibrillation(heart: Heart, stream: np.random.Generator) -> Heart:
    # Fibrillatory waves are largest over the right atrium: V1.
    size = stream.uniform(0.05, 0.11)
    return replace(
        heart,
        rhythm="fibrillation",
        heart_rate=stream.uniform(65, 125),
        atrial_waves=(-0.3 * size, 0.6 * size, -0.8 * size),
    )


def _flutter(heart: Heart, stream: np.random.Generator) -> Heart:
    # Counterclockwise flutter: negative sawtooth in II, III and aVF, positive in V1.
    ratio, size = int(stream.choice([2, 3, 4])), stream.uniform(0.12, 0.2)
    return replace(
        heart,
        rhythm="flutter",
        flutter_ratio=ratio,
        heart_rate=60 * FLUTTER_HZ / ratio,
        atrial_waves=(0.0, -size, -0.5 * size),
        t=_times(heart.t, 0.6),
    )


def _long_pr(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, pr=stream.uniform(0.23, 0.30))


def _left_bundle_branch_block(heart: Heart, stream: np.random.Generator) -> Heart:
    gain = stream.uniform(0.85, 1.1)
    wide = replace(
        heart,
        strokes=LEFT_BLOCK_STROKES,
        axis=stream.uniform(-30, 25),
        qtc=heart.qtc + 0.05,
        st=_times((-0.05, -0.01, -0.12), gain),
        t=_times((-0.30, -0.05, -0.42), gain),  # against the QRS complex
    )
    return scale_qrs(wide, gain)


def _right_bundle_branch_block(heart: Heart, stream: np.random.Generator) -> Heart:
    late = replace(RIGHT_BLOCK_STROKE, moment=_times(RIGHT_BLOCK_STROKE.moment, stream.uniform(0.85, 1.2)))
    basal = replace(heart.strokes["basal"], moment=_times(heart.strokes["basal"].moment, 0.6))
    x, y, z = heart.t
    return replace(
        heart,
        strokes={**heart.strokes, "basal": basal, "right": late},
        qtc=heart.qtc + 0.03,
        t=(x, y, z + 0.32),  # T turns away from the late right forces: inverted in V1 to V2
    )


def _pacemaker(heart: Heart, stream: np.random.Generator) -> Heart:
    gain = stream.uniform(0.85, 1.1)
    paced = replace(
        heart,
        heart_rate=stream.uniform(60, 75),
        respiratory_share=0.0,
        paced=True,
        p_right=(0.0, 0.0, 0.0),
        p_left=(0.0, 0.0, 0.0),
        strokes=PACED_STROKES,
        axis=stream.uniform(-80, -60),
        horizontal_turn=0.0,
        qtc=heart.qtc + 0.06,
        st=_times((-0.03, 0.06, -0.06), gain),
        t=_times((-0.15, 0.40, -0.35), gain),
    )
    return scale_qrs(paced, gain)


def _inferior_infarct(heart: Heart, stream: np.random.Generator) -> Heart:
    # The first 50 ms point away from the dead inferior wall: Q waves in II, III and aVF, then a smaller R.
    depth = stream.uniform(0.9, 1.2)
    strokes = {**heart.strokes, "septal": Stroke(0.0, 0.052, _times((0.06, -0.52, -0.22), depth))}
    main = strokes["main"]
    x, y, z = main.moment
    strokes["main"] = replace(main, moment=(x, 0.6 * y, z), begin=main.begin + 0.012)
    return replace(heart, strokes=strokes, axis=stream.uniform(-30, 0), t=(heart.t[0], -0.14 * depth, heart.t[2]))


def _anterior_infarct(heart: Heart, stream: np.random.Generator) -> Heart:
    # The first 50 ms point to the back: Q waves and no growth of R in V1 to V4; T inverted there.
    depth = stream.uniform(0.9, 1.2)
    strokes = {**heart.strokes, "septal": Stroke(0.0, 0.056, _times((-0.20, 0.05, 0.45), depth))}
    x, y, z = strokes["main"].moment
    strokes["main"] = replace(strokes["main"], moment=(0.7 * x, y, z + 0.45))
    return replace(heart, strokes=strokes, st=(0.02, 0.0, -0.07), t=(0.10, 0.16, 0.24 * depth), horizontal_turn=0.0)


def _left_ventricular_hypertrophy(heart: Heart, stream: np.random.Generator) -> Heart:
    # Voltage by Sokolow and Lyon, and the strain pattern: ST down and T inverted in I, aVL, V5 and V6.
    turned = replace(heart, axis=stream.uniform(-20, 20), horizontal_turn=stream.uniform(0, 8))
    tall = scale_qrs(turned, stream.uniform(3.9, 4.8) / sokolow_lyon(turned))
    strain = stream.uniform(0.7, 1.2)
    return replace(tall, st=_times((-0.09, -0.02, -0.08), strain), t=_times((-0.26, -0.03, -0.28), strain))


def _inverted_t(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, t=_times((-0.30, -0.20, 0.06), stream.uniform(0.8, 1.2)))


def _st_depression(heart: Heart, stream: np.random.Generator) -> Heart:
    return replace(heart, st=_times((-0.13, -0.10, 0.06), stream.uniform(0.8, 1.3)), t=_times(heart.t, 0.6))


def _low_voltage(heart: Heart, stream: np.random.Generator) -> Heart:
    # No limb lead's QRS complex reaches 0.5 mV from top to bottom.
    span = np.ptp(qrs_leads(heart)[: len(LIMB_LEADS)], axis=1).max()
    gain = stream.uniform(0.32, 0.44) / span
    return replace(scale_qrs(heart, gain), t=_times(heart.t, 0.5), st=_times(heart.st, 0.5))


def _premature_beats(heart: Heart, _: np.random.Generator) -> Heart:
    return replace(heart, premature=True)


def _times(moment: tuple[float, float, float], gain: float) -> tuple[float, float, float]:
    return gain * moment[0], gain * moment[1], gain * moment[2]


# What each statement does to a healthy heart; applied in this order, whatever the order asked for.
# New rows go at the end, or the streams of those after it change.
CHANGES: dict[str, Change] = {
    "NORM": _unchanged,
    "SR": _unchanged,
    "SBRAD": _bradycardia,
    "STACH": _tachycardia,
    "SARRH": _sinus_arrhythmia,
    "AFIB": _fibrillation,
    "AFLT": _flutter,
    "1AVB": _long_pr,
    "CLBBB": _left_bundle_branch_block,
    "CRBBB": _right_bundle_branch_block,
    "PACE": _pacemaker,
    "IMI": _inferior_infarct,
    "AMI": _anterior_infarct,
    "LVH": _left_ventricular_hypertrophy,
    "INVT": _inverted_t,
    "STD_": _st_depression,
    "LVOLT": _low_voltage,
    "PVC": _premature_beats,
}

# At most one statement out of each row.
CONTRADICTIONS = (
    ("SR", "SBRAD", "STACH", "AFIB", "AFLT", "PACE"),
    ("STACH", "SARRH", "AFIB", "AFLT", "PACE"),
    ("1AVB", "AFIB", "AFLT", "PACE"),
    ("CLBBB", "CRBBB", "PACE"),
    ("PACE", "IMI", "AMI"),
    ("PACE", "LVH", "LVOLT"),
    *(
        ("NORM", abnormal)
        for abnormal in (
            "AFIB",
            "AFLT",
            "PACE",
            "1AVB",
            "CLBBB",
            "CRBBB",
            "IMI",
            "AMI",
            "LVH",
            "INVT",
            "STD_",
        )
    ),
)

# Records in a hundred of a simulated data set, after the proportions of PTB-XL (Wagner et al. 2020).
COMBINATIONS: dict[str, float] = {
    "NORM,SR": 30.0,
    "NORM,SBRAD": 5.0,
    "NORM,STACH": 4.0,
    "NORM,SARRH": 5.0,
    "IMI,SR": 8.0,
    "AMI,SR": 7.0,
    "LVH,SR": 7.0,
    "AFIB": 4.0,
    "AFIB,LVH": 1.5,
    "AFIB,CRBBB": 1.0,
    "AFLT": 2.0,
    "CLBBB,SR": 3.5,
    "CRBBB,SR": 4.0,
    "1AVB,SR": 3.0,
    "1AVB,CRBBB,SR": 1.0,
    "PACE": 2.5,
    "PVC,SR": 3.0,
    "IMI,PVC,SR": 1.0,
    "INVT,SR": 3.0,
    "STD_,SR": 3.0,
    "STD_,STACH": 1.0,
    "LVOLT,SR": 2.0,
}
