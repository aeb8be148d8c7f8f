"""The REST service, asked as a client would: what it answers, what it refuses, and what it never touches."""

import io
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from ecgforge.checkpoints.native import Model, build_network
from ecgforge.evaluation.interpolation import mix_statements
from ecgforge.facts import FACTS, Facts
from ecgforge.formats import FORMATS, read_record, write_record
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.record import EcgRecord, Provenance
from ecgforge.sampling import Job, SamplingOptions
from ecgforge.serving.rest import PAGE, make_app
from ecgforge.serving.service.jobs import ENDED, Limits

HERE = "http://127.0.0.1"
FAST = {"sampler": "ddim", "steps": 2}
RECORD = EcgRecord(
    signal=np.random.default_rng(3).normal(size=(12, 400)).round(3).astype(np.float32),
    rate=200.0,
    record_id="one",
    statements={"AFIB": 0.5},
    provenance=Provenance(synthetic=True, source="test", seed=1, index=2),
)


@pytest.fixture(scope="module")
def client(generator: Generator) -> Iterator[TestClient]:
    with TestClient(make_app(generator, limits=Limits(waiting=3)), base_url=HERE) as client:
        yield client


@pytest.fixture(scope="module")
def knowing_client(knowing: Generator) -> Iterator[TestClient]:
    """Of a model that knows facts."""
    with TestClient(make_app(knowing), base_url=HERE) as client:
        yield client


@pytest.fixture(scope="module")
def job(client: TestClient) -> str:
    """A finished job of two records."""
    return finished(client, {"kind": "samples", "statements": {"NORM": 1, "SR": 0.5}, "n": 2, "seed": 7, **FAST})["id"]


def finished(client: TestClient, request: dict[str, object]) -> dict[str, Any]:
    answer = client.post("/jobs", json=request)
    assert answer.status_code == 202, answer.text
    return ended(client, answer.json()["id"])


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    while (status := client.get(f"/jobs/{job_id}").json())["state"] not in ENDED:
        time.sleep(0.01)
    return status


def problem(answer: httpx.Response) -> str:
    """The words of an error, which is JSON of two texts."""
    content = answer.json()
    assert set(content) == {"error", "remedy"}
    assert content["error"]
    assert content["remedy"]
    return f"{content['error']}; {content['remedy']}"


# ------------------------------------------------------------------------------------------------ facts


def test_statements_are_found_by_code_and_by_name(client: TestClient) -> None:
    assert len(client.get("/statements").json()) == 71
    assert [entry["code"] for entry in client.get("/statements", params={"search": "fibrill"}).json()] == ["AFIB"]
    (found,) = client.get("/statements", params={"search": "afib"}).json()
    assert found["description"] == "atrial fibrillation"
    assert found["snomed"] == "164889003"
    assert found["known_to_model"]


def test_the_model_says_what_it_can_be_asked(client: TestClient) -> None:
    answer = client.get("/models").json()
    (model,) = answer["models"]
    assert (model["name"], model["rate_hz"], model["seconds"], model["facts"]) == ("tiny", 100.0, 10.0, [])
    assert model["samplers"] == {"ddpm": 50, "ddim": 20, "dpmpp": 20, "dpmpp-sde": 20, "unipc": 20}
    assert answer["file_formats"] == list(FORMATS)


def test_the_description_has_every_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    records = "/jobs/{job_id}/records/{index}"
    assert set(paths) == {
        *("/statements", "/models", "/jobs", "/jobs/{job_id}", "/jobs/{job_id}/file", "/convert"),
        *(records, f"{records}/file", f"{records}/plot"),
        *("/kit", "/kit/sheets/{number}/picture", "/kit/readers/{reader}"),
        *("/kit/readers/{reader}/answers/{number}", "/kit/readers/{reader}/result"),
    }
    assert all(route.get("description") for methods in paths.values() for route in methods.values())


# ------------------------------------------------------------------------------------------------- jobs


def test_records_are_those_of_the_generator(client: TestClient, generator: Generator, job: str) -> None:
    expected = generator.sample("NORM,SR:0.5", n=2, seed=7, options=SamplingOptions(sampler="ddim", steps=2))
    for index, record in enumerate(expected):
        answer = client.get(f"/jobs/{job}/records/{index}").json()
        np.testing.assert_allclose(answer["signal_mv"], record.signal, atol=5.1e-5)
        assert answer["leads"] == list(record.leads)
        assert answer["statements"] == {"NORM": 1.0, "SR": 0.5}
        assert (answer["synthetic"], answer["seed"], answer["index"], answer["rate_hz"]) == (True, 7, index, 100.0)


def test_a_finished_job_says_so(client: TestClient, job: str) -> None:
    status = client.get(f"/jobs/{job}").json()
    assert (status["state"], status["progress"], status["records_done"]) == ("done", 1.0, 2)
    assert client.delete(f"/jobs/{job}").json()["state"] == "done"  # what is done cannot be cancelled


def test_an_interpolation_has_one_noise_and_mixed_grades(client: TestClient, generator: Generator) -> None:
    a, b = {"NORM": 1.0, "SR": 1.0}, {"CLBBB": 1.0, "SR": 1.0}
    grades = [1.0, 0.25, 0.0]
    request = {"kind": "interpolation", "a": a, "b": "CLBBB,SR", "grades": grades, "index": 4, "seed": 5, **FAST}
    status = finished(client, request)
    mixed = [mix_statements(a, b, alpha=grade) for grade in grades]
    assert status["statements"] == mixed
    options = SamplingOptions(sampler="ddim", steps=2)
    expected = list(generator.sample_each([Job(4, statements) for statements in mixed], seed=5, options=options))
    for index, record in enumerate(expected):
        answer = client.get(f"/jobs/{status['id']}/records/{index}").json()
        assert answer["index"] == 4
        np.testing.assert_allclose(answer["signal_mv"], record.signal, atol=5.1e-5)


def test_a_job_can_be_cancelled_while_it_runs(client: TestClient) -> None:
    request = {"kind": "samples", "statements": "AFIB", "n": 64, "steps": 200}
    job_id = client.post("/jobs", json=request).json()["id"]
    while client.get(f"/jobs/{job_id}").json()["progress"] == 0:
        time.sleep(0.01)
    assert client.get(f"/jobs/{job_id}/records/63").status_code == 409
    assert client.delete(f"/jobs/{job_id}").json()["state"] == "cancelled"
    assert finished(client, {"kind": "samples", "statements": "AFIB", **FAST})["state"] == "done"  # the next one runs
    status = client.get(f"/jobs/{job_id}").json()
    assert status["state"] == "cancelled"
    assert status["records_done"] < 64


def test_a_full_queue_says_when_to_come_again(client: TestClient) -> None:
    slow = {"kind": "samples", "statements": "AFIB", "n": 64, "steps": 200}
    running = client.post("/jobs", json=slow).json()["id"]
    while client.get(f"/jobs/{running}").json()["state"] == "queued":
        time.sleep(0.01)
    waiting = [client.post("/jobs", json=slow) for _ in range(3)]
    assert [answer.json()["jobs_before"] for answer in waiting] == [1, 2, 3]
    refused = client.post("/jobs", json=slow)
    for job_id in (*(answer.json()["id"] for answer in waiting), running):
        assert client.delete(f"/jobs/{job_id}").json()["state"] == "cancelled"
    assert refused.status_code == 429
    assert "at most 3 jobs in the queue" in problem(refused)
    assert int(refused.headers["Retry-After"]) > 0


# --------------------------------------------------------------------------------- age, sex, heart rate

ASKED = {"age": 63, "sex": "female", "heart_rate": 110.5}


def made(client: TestClient, **request: object) -> list[dict[str, Any]]:
    """Records of a job in three steps."""
    status = finished(client, {"steps": 3, "seed": 2, **request})
    assert status["state"] == "done"
    return [client.get(f"/jobs/{status['id']}/records/{index}").json() for index in range(status["records_done"])]


def test_facts_reach_the_generator(knowing_client: TestClient, knowing: Generator) -> None:
    assert knowing_client.get("/models").json()["models"][0]["facts"] == list(FACTS)
    facts, options = Facts(age=63, sex="female", heart_rate=110.5), SamplingOptions(steps=3)
    expected = knowing.sample("AFIB", n=2, seed=2, facts=facts, options=options)
    answers = made(knowing_client, kind="samples", statements="AFIB", n=2, **ASKED)
    for record, answer in zip(expected, answers, strict=True):
        np.testing.assert_allclose(answer["signal_mv"], record.signal, atol=5.1e-5)
        assert (answer["age"], answer["sex"]) == (63, "female")
    for fact in FACTS:  # each of them matters
        others = {name: value for name, value in ASKED.items() if name != fact}
        (without,) = made(knowing_client, kind="samples", statements="AFIB", **others)
        assert without["signal_mv"] != answers[0]["signal_mv"]
        assert without.get(fact) is None


def test_statements_of_one_class_have_nothing_between_them(generator: Generator) -> None:
    labels = vocabulary("superdiagnostic").labels
    network = replace(generator.config.network, labels=len(labels))
    config = replace(generator.config, label_set="superdiagnostic", labels=labels, network=network)
    classes = Generator(Model(config, build_network(network)))
    with TestClient(make_app(classes), base_url=HERE) as client:
        answer = client.post("/jobs", json={"kind": "interpolation", "a": "IMI", "b": "AMI", **FAST})
        assert answer.status_code == 422
        assert "IMI and AMI share a class" in problem(answer)
        assert client.post("/jobs", json={"kind": "interpolation", "a": "IMI", "b": "NORM", **FAST}).status_code == 202


def test_facts_hold_for_all_steps_of_an_interpolation(knowing_client: TestClient, knowing: Generator) -> None:
    a, b = made(knowing_client, kind="interpolation", a="NORM,SR", b="CLBBB,SR", grades=[1, 0], **ASKED)
    jobs = [Job(0, {code: 1.0, "SR": 1.0}, Facts(**ASKED)) for code in ("NORM", "CLBBB")]
    for answer, record in zip((a, b), knowing.sample_each(jobs, seed=2, options=SamplingOptions(steps=3)), strict=True):
        np.testing.assert_allclose(answer["signal_mv"], record.signal, atol=5.1e-5)


def test_guidance_reaches_the_generator(knowing_client: TestClient, knowing: Generator, client: TestClient) -> None:
    for weight in (1.0, 3.0):
        (expected,) = knowing.sample("AFIB", seed=2, options=SamplingOptions(steps=3, guidance=weight))
        (answer,) = made(knowing_client, kind="samples", statements="AFIB", guidance=weight)
        np.testing.assert_allclose(answer["signal_mv"], expected.signal, atol=5.1e-5)
    refused = client.post("/jobs", json={"kind": "samples", "statements": "AFIB", "guidance": 3, **FAST})
    assert refused.status_code == 422
    assert "guidance" in problem(refused)


def test_a_model_without_facts_says_what_it_knows(client: TestClient) -> None:
    wishes: list[dict[str, object]] = [
        {"kind": "samples", "statements": "NORM"},
        {"kind": "interpolation", "a": "NORM", "b": "AFIB"},
    ]
    for wish in wishes:
        answer = client.post("/jobs", json={**wish, "age": 40, "heart_rate": 60})
        assert answer.status_code == 422
        words = "tiny cannot be asked for age, heart_rate: this model knows statements only; leave it out"
        assert problem(answer) == words
        assert client.post("/jobs", json={**wish, **FAST, "age": None}).status_code == 202


BAD_FACTS = [
    ('{"age": -1}', "expected an age from 0 to 300 years (PTB-XL's 300: 90 or older), got -1"),
    ('{"age": NaN}', "expected an age from 0 to 300 years (PTB-XL's 300: 90 or older), got nan"),
    ('{"age": "old"}', "body.samples.age: Input should be a valid number"),
    ('{"sex": "f"}', "body.samples.sex: Input should be 'female' or 'male'"),
    ('{"heart_rate": 7}', "expected a heart rate from 20 to 300 beats per minute, got 7"),
]


@pytest.mark.parametrize(("facts", "words"), BAD_FACTS, ids=[facts for facts, _ in BAD_FACTS])
def test_facts_of_nobody_are_refused(knowing_client: TestClient, facts: str, words: str) -> None:
    body = facts.replace("{", '{"kind": "samples", "statements": "NORM", ')
    answer = knowing_client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert words in problem(answer)


# ----------------------------------------------------------------------------------------- bad requests

BAD_JOBS = [
    ({"statements": "NRM"}, "did you mean NORM"),
    ({"statements": {"NORM": 1.5}}, "less than or equal to 1"),
    ({"statements": {"NORM": 0}}, "greater than 0"),
    ({"statements": {}}, "at least 1 item"),
    ({"statements": {"SR": 1, "sr": 0.5}}, "each statement once"),
    ({"n": 0}, "greater than or equal to 1"),
    ({"n": 65}, "at most 64 records a job, got 65"),
    ({"steps": 201}, "200 sampling steps"),
    ({"seed": -1}, "greater than or equal to 0"),
    ({"sampler": "euler"}, "'dpmpp-sde' or 'unipc'"),
    ({"model": "/etc/passwd"}, "body.samples.model: Extra inputs"),
    ({"kind": "twins"}, "'samples', 'interpolation'"),
]


def test_network_calls_are_limited(generator: Generator) -> None:
    with TestClient(make_app(generator, limits=Limits(network_calls=99)), base_url=HERE) as client:
        answer = client.post("/jobs", json={"kind": "samples", "statements": "NORM", "n": 2})
        assert answer.status_code == 422
        assert "at most 99 network calls a job, got 2 records of 50;" in problem(answer)


@pytest.mark.parametrize(("change", "words"), BAD_JOBS, ids=[words for _, words in BAD_JOBS])
def test_bad_requests_are_told_why(client: TestClient, change: dict[str, object], words: str) -> None:
    answer = client.post("/jobs", json={"kind": "samples", "statements": "NORM", **change})
    assert answer.status_code == 422
    assert words in problem(answer)


def test_what_is_not_there_is_told_too(client: TestClient, job: str) -> None:
    for path in ("/nothing", "/jobs/none", f"/jobs/{job}/records/2", "/jobs/none/file", "/page/../jobs.py"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        problem(answer)
    assert client.get("/convert").status_code == 405
    assert client.get(f"/jobs/{job}/records/0/file", params={"format": "pickle"}).status_code == 422


# ------------------------------------------------------------------------------------------------ files


def saved(answer: httpx.Response, folder: Path) -> Path:
    """The file of an answer, unpacked if it is a zip of a WFDB record; the one to read."""
    assert answer.status_code == 200, answer.text
    (name,) = re.findall(r'filename="([-\w.]+)"', answer.headers["Content-Disposition"])
    if not name.endswith(".zip"):
        (folder / name).write_bytes(answer.content)
        return folder / name
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(folder)
    return next(folder.glob("*.hea"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_record_comes_in_every_format(client: TestClient, job: str, format: str, tmp_path: Path) -> None:
    answer = client.get(f"/jobs/{job}/records/1/file", params={"format": format})
    record = read_record(saved(answer, tmp_path))
    expected = client.get(f"/jobs/{job}/records/1").json()
    np.testing.assert_allclose(record.signal, expected["signal_mv"], atol=5.6e-4)
    assert record.provenance.synthetic
    assert record.statements == {"NORM": 1.0, "SR": 0.5}
    assert (record.provenance.seed, record.provenance.index) == (7, 1)


def test_all_records_of_a_job_come_in_a_zip(client: TestClient, job: str) -> None:
    answer = client.get(f"/jobs/{job}/file", params={"format": "wfdb"})
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    base = f"synthetic-7-0000{{}}-{job[:6]}-0{{}}"
    assert names == [base.format(i, i) + ending for i in (0, 1) for ending in (".dat", ".hea")]
    assert client.get(f"/jobs/{job}/file", params={"format": "wfdb"}).content == answer.content


@pytest.mark.parametrize(("format", "beginning"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_record_comes_on_paper(client: TestClient, job: str, format: str, beginning: bytes) -> None:
    answer = client.get(f"/jobs/{job}/records/0/plot", params={"format": format, "layout": "6x2"})
    assert answer.content.startswith(beginning)
    assert answer.headers["Content-Type"].startswith({"pdf": "application"}.get(format, "image"))


def send(client: TestClient, *files: tuple[str, bytes], format: str = "csv") -> httpx.Response:
    return client.post("/convert", params={"format": format}, files=[("files", file) for file in files])


@pytest.mark.parametrize("format", FORMATS)
def test_an_uploaded_file_is_converted(client: TestClient, format: str, tmp_path: Path) -> None:
    write_record(RECORD, tmp_path / "mine", format=format)
    files = [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    (tmp_path / "back").mkdir()
    path = saved(send(client, *files), tmp_path / "back")
    assert path.name == "mine.csv"
    record = read_record(path)
    np.testing.assert_allclose(record.signal, RECORD.signal, atol=1e-4)
    assert (record.rate, record.leads, record.statements) == (RECORD.rate, RECORD.leads, RECORD.statements)


def test_a_header_cannot_reach_for_other_files(client: TestClient, tmp_path: Path) -> None:
    write_record(RECORD, tmp_path / "mine.hea")
    header = (tmp_path / "mine.hea").read_bytes()
    for path in (str(tmp_path / "mine.dat"), "../mine.dat", "other.dat", "~mine.dat"):
        answer = send(client, ("mine.hea", header.replace(b"mine.dat", path.encode())))
        assert answer.status_code == 422
        assert f"got none called {path!r}" in problem(answer)


@pytest.mark.parametrize("name", ["../one.csv", "/etc/one.csv", "a b.csv", ".csv", "one.csv.exe.sh"])
def test_a_path_is_no_name(client: TestClient, name: str) -> None:
    answer = send(client, (name, b"time_s,I_mV\n"))
    assert answer.status_code == 422
    assert "expected a file name" in problem(answer)


def test_pickled_objects_are_not_read(client: TestClient, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    content = io.BytesIO()
    np.savez(content, signal=np.array([Trap()]), leads=np.array(["I"]), rate=np.array(1.0), metadata=np.array("{}"))
    answer = send(client, ("mine.npz", content.getvalue()))
    assert answer.status_code == 422
    assert "allow_pickle=False" in problem(answer)
    assert not (tmp_path / "sprung").exists()


def test_a_small_file_cannot_grow_large(client: TestClient) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("signal.npy", bytes(2**26 + 1))
    answer = send(client, ("mine.npz", content.getvalue()))
    assert answer.status_code == 422
    assert "expected at most 67108864 bytes in mine.npz, got 67108865" in problem(answer)


def test_errors_name_no_folder_of_the_service(client: TestClient) -> None:
    words = problem(send(client, ("mine.csv", b"nothing")))
    assert words.startswith("mine.csv: expected columns")
    assert "/tmp" not in words


def test_too_much_is_refused_however_it_is_sent(generator: Generator) -> None:
    with TestClient(make_app(generator, limits=Limits(upload_bytes=1000)), base_url=HERE) as client:
        at_once = send(client, ("mine.csv", bytes(2000)))
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        begun = b'--x\r\nContent-Disposition: form-data; name="files"; filename="mine.csv"\r\n\r\n'
        pieces = iter([begun, bytes(600), bytes(600), b"\r\n--x--\r\n"])
        in_pieces = client.post("/convert?format=csv", content=pieces, headers=headers)
    for answer in (at_once, in_pieces):
        assert answer.status_code == 413
        assert "at most 1000 bytes" in problem(answer)


# ------------------------------------------------------------------------------------------------ guard


def test_a_token_is_asked_for_everywhere_but_on_the_page(generator: Generator) -> None:
    with TestClient(make_app(generator, token="open-sesame-1"), base_url=HERE) as client:
        for path in ("/models", "/statements", "/jobs/x"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert "Authorization: Bearer" in problem(answer)
        assert client.post("/jobs", json={}).status_code == 401
        for path in ("/", "/page/page.js", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        for wrong in ("Bearer open-sesame-2", "open-sesame-1", "Basic open-sesame-1", "Bearer"):
            assert client.get("/models", headers={"Authorization": wrong}).status_code == 401
        assert client.get("/models", headers={"Authorization": "Bearer open-sesame-1"}).status_code == 200


def test_other_host_names_are_not_answered(client: TestClient) -> None:
    for host in ("127.0.0.1:8321", "localhost", "[::1]:8321"):
        assert client.get("/models", headers={"Host": host}).status_code == 200
    answer = client.get("/models", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 421
    assert "127.0.0.1" in problem(answer)


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    assert "default-src 'none'" in client.get("/").headers["Content-Security-Policy"]
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text.replace("https://", "http://"), path
        if path.suffix == ".html":
            for reference in re.findall(r'(?:href|src)="(/[^"]*)"', text):
                assert client.get(reference).status_code == 200, reference
