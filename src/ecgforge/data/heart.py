"""A simulated heart: its rhythm, intervals and dipole moments, and the beats that follow from them.

Times are in s, moments in mV along Frank's axes (X left, Y feet, Z back). Within a beat, time counts from the
QRS onset. Normal values and their spread are those of adult electrocardiography (Macfarlane et al.,
Comprehensive Electrocardiology, 2nd ed., 2010, appendix 1), rounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from ecgforge.data.dipole import Wave, dipole_moment, rotate, twelve_leads, wave_between
from ecgforge.leads import STANDARD_LEADS

Moment = tuple[float, float, float]
Rhythm = Literal["sinus", "fibrillation", "flutter"]

FLUTTER_HZ = 5.0  # 300 atrial cycles a minute
# In fibrillation the AV node conducts after its refractory period (s) and a gamma-distributed wait.
_REFRACTORY = 0.30
_FIBRILLATION_SHAPE = 3.0
_QRS_CLOCK = np.arange(-0.02, 0.25, 0.0005)  # fine enough for peaks and amplitudes of one QRS complex


@dataclass(frozen=True)
class Stroke:
    """One part of the QRS complex, in one direction (mV), from `begin` to `end` (s after QRS onset)."""

    begin: float
    end: float
    moment: Moment


@dataclass(frozen=True)
class Heart:
    """Everything that decides how a simulated ECG looks; the defaults are a normal adult's.

    Attributes:
        heart_rate: Ventricular rate, beats a minute.
        rhythm: What drives the beats; P waves only in "sinus".
        respiratory_share: Respiratory sinus arrhythmia: swing of RR around its mean, as a share of it.
        respiration: Breaths a second (Hz).
        flutter_ratio: Atrial cycles to one beat, in "flutter".
        pr: PR interval: P onset to QRS onset, s.
        p_duration: s.
        qtc: QT interval at 60 a minute, s; Fridericia: QT = qtc * RR^(1/3).
        p_right: Moment of the right atrium, the first half of P.
        p_left: Moment of the left atrium, the second half of P.
        strokes: Parts of the QRS complex by name.
        st: Moment held between QRS and T.
        t: Moment at the peak of T.
        atrial_waves: Moment of fibrillation or flutter waves.
        axis: Electrical axis of the QRS complex in the frontal plane, degrees (0 left, 90 feet).
        horizontal_turn: Turn of the ventricles in the horizontal plane, degrees towards the back.
        paced: A pacemaker's spike precedes every QRS complex.
        premature: Now and then a ventricular premature beat with a compensatory pause.
    """

    heart_rate: float
    rhythm: Rhythm
    respiratory_share: float
    respiration: float
    flutter_ratio: int
    pr: float
    p_duration: float
    qtc: float
    p_right: Moment
    p_left: Moment
    strokes: Mapping[str, Stroke]
    st: Moment
    t: Moment
    atrial_waves: Moment
    axis: float
    horizontal_turn: float
    paced: bool
    premature: bool

    @property
    def rr(self) -> float:
        """Mean RR interval, s."""
        return 60.0 / self.heart_rate

    @property
    def qrs(self) -> float:
        """QRS duration, s."""
        return max(stroke.end for stroke in self.strokes.values())

    @property
    def qt(self) -> float:
        """QT interval at this heart rate, s (Fridericia, Acta Med. Scand. 53:469, 1920)."""
        return float(self.qtc * self.rr ** (1 / 3))


# A normal QRS complex: the septum to the right and front, the free walls to the left, the base up and back.
NORMAL_STROKES = {
    "septal": Stroke(0.000, 0.040, (-0.16, -0.04, -0.30)),
    "main": Stroke(0.014, 0.068, (1.15, 0.95, 0.20)),
    "basal": Stroke(0.040, 0.090, (-0.05, -0.18, 0.75)),
}
# Without the left bundle the septum turns leftwards and the left wall is late: broad, notched, no Q in V6.
LEFT_BLOCK_STROKES = {
    "early": Stroke(0.000, 0.070, (0.40, 0.10, 0.50)),
    "main": Stroke(0.018, 0.112, (0.85, 0.32, 1.25)),
    "late": Stroke(0.060, 0.150, (0.85, 0.10, 1.10)),
}
# From the apex of the right ventricle: to the left, up and back.
PACED_STROKES = {
    "early": Stroke(0.000, 0.080, (0.25, -0.30, 0.35)),
    "main": Stroke(0.025, 0.125, (0.60, -0.85, 1.00)),
    "late": Stroke(0.080, 0.165, (0.30, -0.55, 0.65)),
}
# The right ventricle last and slowly, to the right and front.
RIGHT_BLOCK_STROKE = Stroke(0.055, 0.145, (-0.50, -0.05, -0.60))
# A premature beat from the right ventricular outflow tract: broad, downwards and back.
PREMATURE_WAVES = (
    wave_between(0.000, 0.110, np.array([0.25, 0.80, 0.75])),
    wave_between(0.050, 0.160, np.array([0.35, 1.10, 0.75])),
    wave_between(0.170, 0.430, np.array([-0.30, -0.45, -0.55]), peak_at=0.55),
)
SPIKE = Wave(centre=-0.012, rise=0.004, fall=0.004, moment=np.array([0.35, 0.45, -0.35]))


@dataclass(frozen=True)
class Beat:
    """One ventricular beat: time of its QRS onset (s) and whether it is premature."""

    onset: float
    premature: bool = False


def draw_heart(stream: np.random.Generator) -> Heart:
    """A healthy adult's heart at rest: values spread as between people."""
    qrs_gain, p_gain, t_gain = np.exp(stream.normal(0, (0.16, 0.18, 0.20)))
    slowness = stream.uniform(0.9, 1.12)
    strokes = {name: _jittered(part, qrs_gain, slowness, stream) for name, part in NORMAL_STROKES.items()}
    return Heart(
        heart_rate=stream.uniform(62, 92),
        rhythm="sinus",
        respiratory_share=stream.uniform(0.01, 0.04),
        respiration=stream.uniform(0.2, 0.3),
        flutter_ratio=1,
        pr=stream.uniform(0.135, 0.185),
        p_duration=stream.uniform(0.09, 0.11),
        qtc=stream.uniform(0.385, 0.425),
        p_right=_scaled((0.05, 0.09, -0.05), p_gain),
        p_left=_scaled((0.08, 0.06, 0.05), p_gain),
        strokes=strokes,
        st=_scaled((0.02, 0.01, -0.03), stream.uniform(0, 1)),
        t=_scaled((0.33, 0.22, -0.16), t_gain),
        atrial_waves=(0.0, 0.0, 0.0),
        axis=float(np.clip(stream.normal(48, 18), 5, 80)),
        horizontal_turn=float(np.clip(stream.normal(0, 7), -12, 12)),
        paced=False,
        premature=False,
    )


def scale_qrs(heart: Heart, gain: float) -> Heart:
    """The heart with its QRS complex `gain` times as large."""
    strokes = {name: replace(part, moment=_scaled(part.moment, gain)) for name, part in heart.strokes.items()}
    return replace(heart, strokes=strokes)


def qrs_leads(heart: Heart) -> Float[np.ndarray, "12 L"]:
    """One QRS complex alone in the twelve leads, mV, at 2 kHz."""
    return twelve_leads(dipole_moment([(0.0, _qrs_waves(heart))], _QRS_CLOCK))


def sokolow_lyon(heart: Heart) -> float:
    """Depth of S in V1 plus height of R in V5, mV; above 3.5 mV speaks for left ventricular hypertrophy."""
    leads = qrs_leads(heart)
    return float(leads[STANDARD_LEADS.index("V5")].max() - leads[STANDARD_LEADS.index("V1")].min())


def r_delay(heart: Heart) -> float:
    """Time from the QRS onset to the largest dipole moment, s: the R peak of the whole heart."""
    return _peak_time(_qrs_waves(heart))


def r_times(heart: Heart, beats: list[Beat]) -> Float[np.ndarray, " N"]:
    """Time of each beat's R peak, s."""
    usual, premature = r_delay(heart), _peak_time(PREMATURE_WAVES[:2])
    return np.array([beat.onset + (premature if beat.premature else usual) for beat in beats])


def beat_waves(heart: Heart) -> tuple[Wave, ...]:
    """All waves of a usual beat; a premature one has PREMATURE_WAVES."""
    before = (SPIKE,) if heart.paced else ()
    atrial = _p_waves(heart) if heart.rhythm == "sinus" else ()
    return (*atrial, *before, *_qrs_waves(heart), *_repolarisation(heart))


def draw_beats(heart: Heart, seconds: float, stream: np.random.Generator) -> list[Beat]:
    """The beats that touch 0 to `seconds`, drawn in time order: a longer record begins like a shorter one."""
    breath = stream.uniform(0, 2 * np.pi)
    time = -heart.rr * (1 + stream.uniform())
    until_premature = int(stream.integers(1, 4))
    beats = []
    while time < seconds + heart.rr:
        beats.append(Beat(time))
        interval = _next_interval(heart, time, breath, stream)
        until_premature -= 1
        if heart.premature and until_premature == 0:
            # Coupled to the beat before; the sinus node keeps its time, so the pause makes up for it.
            beats.append(Beat(time + interval * stream.uniform(0.58, 0.66), premature=True))
            time += interval
            until_premature = int(stream.integers(2, 6))
        time += interval
    return beats


def atrial_activity(
    heart: Heart, times: Float[np.ndarray, " L"], first_onset: float, stream: np.random.Generator
) -> Float[np.ndarray, "3 L"]:
    """Dipole moment of fibrillation or flutter waves, mV; zero in sinus rhythm.

    Flutter waves keep step with the beats, of which the first begins at `first_onset` (s).

    Source: sawtooth harmonics with slowly modulated amplitude and frequency, Stridh and Sornmo,
    IEEE Trans. Biomed. Eng. 48:105 (2001), eq. 1-3.
    """
    if heart.rhythm == "fibrillation":
        drift, sway = stream.uniform(0, 2 * np.pi, 2)
        phase = 2 * np.pi * stream.uniform(5, 7.5) * times
        phase += 2.0 * np.sin(2 * np.pi * 0.23 * times + drift) + 0.8 * np.sin(2 * np.pi * 1.1 * times + sway)
        size = 1 + 0.4 * np.sin(2 * np.pi * 0.37 * times + sway)
        wave = size * _sawtooth(phase, harmonics=3)
    elif heart.rhythm == "flutter":
        wave = _sawtooth(2 * np.pi * FLUTTER_HZ * (times - first_onset - 0.05), harmonics=5)
    else:
        wave = np.zeros_like(times)
    return np.outer(heart.atrial_waves, wave)


def _sawtooth(phase: Float[np.ndarray, " L"], *, harmonics: int) -> Float[np.ndarray, " L"]:
    """Slow fall, quick rise; about +-1."""
    partials = np.stack([np.sin(order * phase) / order for order in range(1, harmonics + 1)])
    return np.asarray(partials.sum(axis=0) * (2 / np.pi))


def _next_interval(heart: Heart, time: float, breath: float, stream: np.random.Generator) -> float:
    if heart.rhythm == "flutter":
        return heart.flutter_ratio / FLUTTER_HZ
    if heart.rhythm == "fibrillation":
        wait = stream.gamma(_FIBRILLATION_SHAPE) / _FIBRILLATION_SHAPE
        return _REFRACTORY + (heart.rr - _REFRACTORY) * wait
    swing = heart.respiratory_share * np.sin(2 * np.pi * heart.respiration * time + breath)
    jitter = 0.0 if heart.paced else 0.005 * stream.normal()
    return float(heart.rr * (1 + swing + jitter))


def _p_waves(heart: Heart) -> tuple[Wave, ...]:
    onset, length = -heart.pr, heart.p_duration
    return (
        wave_between(onset, onset + 0.70 * length, np.array(heart.p_right)),
        wave_between(onset + 0.30 * length, onset + length, np.array(heart.p_left)),
    )


def _qrs_waves(heart: Heart) -> tuple[Wave, ...]:
    turn = _frontal_turn(heart)
    return tuple(
        wave_between(
            part.begin,
            part.end,
            rotate(np.array(part.moment), frontal_degrees=turn, horizontal_degrees=heart.horizontal_turn),
        )
        for part in heart.strokes.values()
    )


def _repolarisation(heart: Heart) -> tuple[Wave, ...]:
    # T takes the last 48 % of QT but begins after QRS; it follows half of the heart's frontal turn.
    t_onset = max(0.52 * heart.qt, heart.qrs + 0.02)
    t_peak = t_onset + 0.57 * (heart.qt - t_onset)
    turn = _frontal_turn(heart) / 2
    st, t = (
        rotate(np.array(moment), frontal_degrees=turn, horizontal_degrees=heart.horizontal_turn)
        for moment in (heart.st, heart.t)
    )
    st_begin = heart.qrs - 0.03
    return (
        wave_between(st_begin, t_peak, st, plateau=0.5 * (t_peak - st_begin), peak_at=0.3),
        wave_between(t_onset, heart.qt, t, peak_at=0.57),
    )


def _frontal_turn(heart: Heart) -> float:
    """Degrees to turn the strokes by, so that the QRS complex has the heart's electrical axis.

    The axis is read, as usual, off the part before the right bundle branch block's terminal forces.
    """
    parts = [part for name, part in heart.strokes.items() if name != "right"]
    net = np.sum([np.array(part.moment) * (part.end - part.begin) for part in parts], axis=0)
    turns = np.arange(-180.0, 180.0, 0.5)
    turned = rotate(net, frontal_degrees=turns, horizontal_degrees=heart.horizontal_turn)
    leads = twelve_leads(turned)
    # Goldberger's leads are shorter than Einthoven's by sqrt(3)/2.
    axes = np.rad2deg(np.arctan2(leads[STANDARD_LEADS.index("aVF")] * 2 / np.sqrt(3), leads[0]))
    gaps = np.abs((axes - heart.axis + 180) % 360 - 180)
    return float(turns[gaps.argmin()])


def _peak_time(waves: tuple[Wave, ...]) -> float:
    size = np.linalg.norm(dipole_moment([(0.0, waves)], _QRS_CLOCK), axis=0)
    return float(_QRS_CLOCK[size.argmax()])


def _jittered(stroke: Stroke, gain: float, slowness: float, stream: np.random.Generator) -> Stroke:
    turned = rotate(
        np.array(stroke.moment), frontal_degrees=stream.normal(0, 5), horizontal_degrees=stream.normal(0, 5)
    )
    return Stroke(
        begin=slowness * stroke.begin,
        end=slowness * stroke.end,
        moment=_scaled(turned, gain * np.exp(stream.normal(0, 0.08))),
    )


def _scaled(moment: Moment | Float[np.ndarray, "3"], gain: float) -> Moment:
    x, y, z = (float(gain * part) for part in moment)
    return x, y, z
