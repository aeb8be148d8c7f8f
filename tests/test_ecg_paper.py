"""ECG paper: true physical size by coordinates, what stands where, what is refused, identical files."""

import dataclasses
import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from typer.testing import CliRunner

from ecgforge import ecg_paper
from ecgforge.ecg_paper import draw_ecg, draw_sheet, save_ecg
from ecgforge.errors import ConfigError, DataError
from ecgforge.formats import write_record
from ecgforge.leads import STANDARD_LEADS, twelve_from_eight
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.serving.plot_command import Layout, PictureFormat, plot


def beats(*, seconds: float = 10.0, rate: float = 100.0, amplitude: float = 1.0, **facts: object) -> EcgRecord:
    """One narrow wave every 0.8 s, of another height in each lead."""
    t = np.arange(round(seconds * rate)) / rate
    wave = np.exp(-(((t % 0.8) - 0.4) ** 2) / (2 * 0.01**2))
    heights = amplitude * np.array([0.7, -0.4, 0.2, 0.8, 1.2, 1.3, 1.0, 0.9])
    signal = twelve_from_eight((heights[:, None] * wave).astype(np.float32))
    return dataclasses.replace(EcgRecord(signal, rate=rate, record_id="00017"), **facts)


def in_mm(figure: Figure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where points of the drawing lie on the page, in mm from its lower left corner."""
    return figure.axes[0].transData.transform(np.column_stack([x, y])) / figure.dpi * 25.4


def lines(figure: Figure, gid: str) -> list[np.ndarray]:
    """The lines of this name, each as (points, 2) in mm of paper."""
    return [in_mm(figure, *line.get_data()) for line in figure.axes[0].lines if line.get_gid() == gid]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def page_mm(figure: Figure) -> tuple[float, float]:
    width, height = figure.get_size_inches() * 25.4
    return round(width, 6), round(height, 6)


def test_ten_seconds_fit_a4_landscape():
    assert page_mm(draw_ecg(beats())) == (297.0, 210.0)


@pytest.mark.parametrize(("speed", "gain"), [(25.0, 10.0), (50.0, 10.0), (25.0, 5.0), (12.5, 20.0)])
def test_a_second_and_a_millivolt_have_their_size_on_paper(speed, gain):
    record = beats(amplitude=0.5)
    figure = draw_ecg(record, speed_mm_s=speed, gain_mm_mv=gain)
    strip = lines(figure, "trace II")[-1]
    assert np.ptp(strip[:, 0]) == pytest.approx((record.duration - 1 / record.rate) * speed)
    assert np.ptp(strip[:, 1]) == pytest.approx(np.ptp(record.lead("II")) * gain, rel=1e-5)
    np.testing.assert_allclose(np.diff(strip[:, 0]), speed / record.rate, rtol=1e-6)
    pulses = lines(figure, "calibration")
    assert len(pulses) == 4
    for pulse in pulses:
        top = pulse[np.isclose(pulse[:, 1], pulse[:, 1].max())]
        assert np.ptp(pulse[:, 1]) == pytest.approx(gain)
        assert np.ptp(top[:, 0]) == pytest.approx(0.2 * speed)


def test_grid_lines_are_one_and_five_millimetres_apart():
    fine, boxes = draw_ecg(beats()).axes[0].collections
    for lines_, step in ((fine, 1.0), (boxes, 5.0)):
        segments = np.array(lines_.get_segments())
        for axis in (0, 1):
            upright = segments[np.ptp(segments[:, :, axis], axis=1) == 0]
            np.testing.assert_allclose(np.diff(upright[:, 0, axis]), step)


def test_columns_show_consecutive_quarters_of_every_lead():
    record = beats(signal=twelve_from_eight(np.random.default_rng(0).normal(size=(8, 1000), scale=0.1)))
    figure = draw_ecg(record)
    for row in ecg_paper.LAYOUTS["3x4"]:
        for column, lead in enumerate(row):
            trace = lines(figure, f"trace {lead}")[0]
            expected = record.lead(lead)[250 * column : 250 * (column + 1) + 1]
            np.testing.assert_allclose((trace[:, 1] - trace[0, 1]) / 10, expected - expected[0], atol=1e-5)
            assert trace[0, 0] == pytest.approx(lines(figure, "trace I")[0][0, 0] + 62.5 * column)


@pytest.mark.parametrize(("layout", "rows"), [("3x4", 4), ("6x2", 7), ("12x1", 12)])
def test_every_layout_shows_every_lead_once_and_a_rhythm_strip_where_columns_share_time(layout, rows):
    figure = draw_ecg(beats(), layout=layout)
    names = [text for text in texts(figure) if text in STANDARD_LEADS]
    strip = [] if layout == "12x1" else ["II"]
    assert sorted(names) == sorted([*STANDARD_LEADS, *strip])
    assert len(lines(figure, "calibration")) == rows


def test_rhythm_lead_can_be_chosen_or_left_out():
    assert len(lines(draw_ecg(beats(), rhythm_lead="v1"), "trace V1")) == 2
    assert len(lines(draw_ecg(beats(), rhythm_lead=None), "calibration")) == 3


def baselines(figure: Figure) -> list[float]:
    return [pulse[0, 1] for pulse in lines(figure, "calibration")]


def nearest(rows: list[float], y: float) -> int:
    return min(range(len(rows)), key=lambda row: abs(rows[row] - y))


@pytest.mark.parametrize("amplitude", [0.2, 1.0, 2.5])
@pytest.mark.parametrize("layout", ["3x4", "12x1"])
def test_rows_never_collide_and_stand_on_box_lines(amplitude, layout):
    record = beats(amplitude=amplitude)
    figure = draw_ecg(record, layout=layout)
    rows = baselines(figure)
    np.testing.assert_allclose((np.array(rows) - rows[-1]) / 5, np.round((np.array(rows) - rows[-1]) / 5), atol=1e-9)
    traces = [line for lead in STANDARD_LEADS for line in lines(figure, f"trace {lead}")]
    for upper, lower in itertools.product(traces, traces):
        above, below = (nearest(rows, np.median(line[:, 1])) for line in (upper, lower))
        if above < below:
            _, ours, theirs = np.intersect1d(upper[:, 0].round(6), lower[:, 0].round(6), return_indices=True)
            assert np.all(upper[ours, 1] - lower[theirs, 1] > 1.0)
    assert min(line[:, 1].min() for line in traces) >= ecg_paper.FOOTER_MM
    assert max(line[:, 1].max() for line in traces) <= page_mm(figure)[1] - ecg_paper.HEADER_MM


def test_a_constant_offset_does_not_move_the_trace():
    record = beats()
    shifted = dataclasses.replace(record, signal=record.signal + 3.0)
    for lead in STANDARD_LEADS:
        ours, theirs = lines(draw_ecg(record), f"trace {lead}"), lines(draw_ecg(shifted), f"trace {lead}")
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)


def test_very_large_waves_are_cut_and_marked():
    figure = draw_ecg(beats(amplitude=8.0))
    strip = lines(figure, "trace II")[-1]
    assert strip[:, 1].max() - baselines(figure)[-1] == pytest.approx(ecg_paper.CLIP_MM)
    assert sum(line.get_marker() == "^" for line in figure.axes[0].lines) >= 12
    assert any("cut at 4 mV" in text for text in texts(figure))
    assert not any("cut" in text for text in texts(draw_ecg(beats())))


def test_gaps_stay_gaps_and_an_empty_lead_says_so():
    signal = beats().signal.copy()
    signal[STANDARD_LEADS.index("V1"), 600:650] = np.nan
    signal[STANDARD_LEADS.index("V2")] = np.inf
    figure = draw_ecg(beats(signal=signal))
    assert np.isnan(lines(figure, "trace V1")[0][:, 1]).sum() == 50
    assert "V2 no signal" in texts(figure)


def test_a_record_with_fewer_leads_shows_those_in_standard_order_over_the_whole_time():
    record = beats()
    few = EcgRecord(record.in_leads(("V1", "aVR", "II")), rate=100.0, leads=("V1", "aVR", "II"))
    figure = draw_ecg(few)
    assert [text for text in texts(figure) if text in STANDARD_LEADS] == ["II", "aVR", "V1"]
    assert all(len(lines(figure, f"trace {lead}")[0]) == 1000 for lead in few.leads)


@pytest.mark.parametrize("seconds", [2.5, 30.0])
def test_other_lengths_keep_the_scale(seconds):
    figure = draw_ecg(beats(seconds=seconds))
    assert np.ptp(lines(figure, "trace II")[-1][:, 0]) == pytest.approx(25 * (seconds - 0.01))
    assert page_mm(figure)[0] == max(297.0, 47.0 + 25 * seconds)


def test_header_tells_patient_statements_and_origin():
    record = beats(
        statements={"IMI": 0.5, "SR": 1.0},
        patient=Patient(age=300.0, sex="female"),
        provenance=Provenance(source="PTB-XL 1.0.3", fold=9),
    )
    shown = texts(draw_ecg(record))
    assert "00017" in shown
    assert "90 years or older · female · 10 s" in shown
    assert "IMI inferior myocardial infarction (0.5); SR sinus rhythm" in shown
    assert "PTB-XL 1.0.3 · fold 9" in shown
    assert "25 mm/s · 10 mm/mV · 100 Hz · no filter" in shown
    assert not any("SYNTHETIC" in text for text in shown)


def test_synthetic_records_say_so_with_model_and_seed():
    shown = texts(draw_ecg(beats(provenance=Provenance(synthetic=True, source="ecgforge small", seed=4, index=17))))
    assert {"SYNTHETIC", "SYNTHETIC ECG", "ecgforge small · seed 4 · record 17"} <= set(shown)


def test_long_texts_stay_on_the_page_and_apart():
    record = beats(
        statements=dict.fromkeys(list(ecg_paper.all_statements())[:20], 1.0),
        record_id="W" * 300,
        provenance=Provenance(synthetic=True, source="model " * 60),
    )
    figure = draw_ecg(record)
    FigureCanvasAgg(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []


@pytest.mark.parametrize(
    ("change", "options", "error", "part"),
    [
        ({}, {"layout": "4x3"}, ConfigError, "3x4, 6x2, 12x1, got '4x3'"),
        ({}, {"speed_mm_s": 0.0}, ConfigError, "above 0, got 0.0 mm/s"),
        ({}, {"gain_mm_mv": float("nan")}, ConfigError, "nan mm/mV"),
        ({}, {"rhythm_lead": "V9"}, DataError, "V9"),
        ({"seconds": 33.0}, {}, DataError, "at most 30 s .*'00017' has 33 s; cut it first"),
        ({"signal": np.zeros((12, 0), dtype=np.float32)}, {}, DataError, r"\(12, 0\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, options, error, part):
    with pytest.raises(error, match=part):
        draw_ecg(beats(**change), **options)


def test_unknown_picture_ending_is_refused_before_drawing(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf, got 'x\.jpg'"):
        save_ecg(beats(), tmp_path / "x.jpg")


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_saved_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path, ending, magic):
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    settings = dict(matplotlib.rcParams)
    save_ecg(beats(), first, dpi=50.8)
    save_ecg(beats(), second, dpi=50.8)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(magic)
    assert sorted(tmp_path.iterdir()) == [first, second]
    assert dict(matplotlib.rcParams) == settings


def test_png_has_two_pixels_a_millimetre_at_50_8_dpi(tmp_path: Path):
    save_ecg(beats(), tmp_path / "a.png", dpi=50.8)
    assert imread(tmp_path / "a.png").shape[:2] == (420, 594)


def test_sheet_shows_every_record_with_its_leads():
    records = [beats(record_id=f"record {i}", statements={"SR": 1.0}) for i in range(5)]
    figure = draw_sheet(records, columns=2, leads=("II", "V2"))
    assert len(lines(figure, "trace II")) == len(lines(figure, "trace V2")) == 5
    assert [text for text in texts(figure) if "record" in text] == [f"record {i} · SR" for i in range(5)]
    assert np.ptp(lines(figure, "trace II")[0][:, 0]) == pytest.approx(12.5 * 9.99)


def test_sheet_refuses_what_it_cannot_show():
    with pytest.raises(DataError, match="at least one record"):
        draw_sheet([])
    with pytest.raises(ConfigError, match="title for each of 1 records, got 2 columns and 2 titles"):
        draw_sheet([beats()], titles=["a", "b"])


app = typer.Typer()
app.command("plot")(plot)


def test_plot_command_draws_the_good_files_and_reports_the_bad_one(tmp_path: Path):
    good = [write_record(beats(record_id=name), tmp_path / f"{name}.csv") for name in ("one", "two")]
    bad = tmp_path / "bad.csv"
    bad.write_text("this is no ECG")
    result = CliRunner().invoke(
        app, [str(good[0]), str(bad), str(good[1]), "--out", str(tmp_path / "p"), "--dpi", "50"]
    )
    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["one.png", "two.png"]
    assert result.stdout.split() == [str(tmp_path / "p" / "one.png"), str(tmp_path / "p" / "two.png")]
    assert f"error: {bad}" in result.stderr


def test_plot_command_writes_beside_the_record_by_default(tmp_path: Path):
    file = write_record(beats(), tmp_path / "one.csv")
    result = CliRunner().invoke(app, [str(file), "--format", "svg", "--layout", "12x1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "one.svg").read_bytes().startswith(b"<?xml")


def test_plot_command_never_draws_one_record_over_another(tmp_path: Path):
    files = [write_record(beats(), tmp_path / folder / "one.csv") for folder in ("a", "b")]
    result = CliRunner().invoke(app, [*map(str, files), "--out", str(tmp_path), "--dpi", "50"])
    assert result.exit_code == 1
    assert f"already shows {files[0]}" in result.stderr


def test_plot_command_offers_what_ecg_paper_has():
    assert [str(layout) for layout in Layout] == list(ecg_paper.LAYOUTS)
    assert [str(kind) for kind in PictureFormat] == list(ecg_paper.PICTURE_FORMATS)
