"""The service: REST routes and the page over one generator. `ecgforge serve` runs it.

One process, one model, one sampling thread. Every error is JSON, {"error": ..., "remedy": ...}. The description of the
routes is /openapi.json, and for people /docs; both work without a network.
"""

import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ecgforge.ecg_paper import LAYOUTS, PICTURE_FORMATS
from ecgforge.errors import ConfigError, DataError, EcgforgeError, LabelError, MissingExtraError
from ecgforge.formats import FORMATS
from ecgforge.generate import Generator
from ecgforge.labels import all_statements
from ecgforge.record import EcgRecord
from ecgforge.sampling import SamplingOptions, default_steps
from ecgforge.serving.convert_command import RecordFormat
from ecgforge.serving.plot_command import Layout, PictureFormat
from ecgforge.serving.service.files import Download, record_files, record_picture, uploaded_record
from ecgforge.serving.service.guard import Guard
from ecgforge.serving.service.jobs import JobQueue, Limits, NoSuchJobError, NotReadyError, Order, QueueFullError
from ecgforge.serving.service.messages import (
    InterpolationRequest,
    JobAnswer,
    JobRequest,
    LimitsAnswer,
    ModelAnswer,
    ModelsAnswer,
    Problem,
    RecordAnswer,
    StatementAnswer,
)
from ecgforge.serving.service.reading import NoSuchSheetError, ReadingRoom, ReadingStateError
from ecgforge.serving.service.reading_routes import add_reading
from ecgforge.snomed import snomed_code

LOOPBACK_NAMES = frozenset(("127.0.0.1", "localhost", "[::1]"))
PAGE = Path(__file__).parent / "page"

_OPEN_PATHS = ("/page/", "/reading", "/docs", "/openapi.json")
_WAIT_S = 20.0  # for other conversions and drawings to end
_STATUS: dict[type[EcgforgeError], int] = {
    NoSuchJobError: 404,
    NoSuchSheetError: 404,
    NotReadyError: 409,
    ReadingStateError: 409,
    QueueFullError: 429,
    LabelError: 422,
    ConfigError: 422,
    DataError: 422,
    MissingExtraError: 501,
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file."}
}

_MOST_UPLOADS = 4
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "title": "Form",
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One file, or a WFDB header with its signal file.",
                        }
                    },
                }
            }
        },
    }
}


class _BusyError(EcgforgeError):
    """Too many ask for files at once."""


def make_app(
    generator: Generator,
    *,
    token: str | None = None,
    limits: Limits = Limits(),
    hosts: frozenset[str] | None = LOOPBACK_NAMES,
    room: ReadingRoom | None = None,
) -> FastAPI:
    """The service as an ASGI application; its lifespan starts and stops the sampling thread.

    Args:
        generator: The model it samples from.
        token: Asked for as `Authorization: Bearer TOKEN`; None asks for none.
        limits: What it takes on.
        hosts: Host names under which it answers, None for any. Names of this machine's own address keep web pages
            from elsewhere out.
        room: The reading room, if there is one.
    """
    queue = JobQueue(generator, limits=limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        queue.stop()

    app = FastAPI(
        title="ecgforge",
        version=metadata.version("ecgforge"),
        description="Synthetic 12-lead ECGs for given ECG statements. Not for diagnosis.",
        docs_url=None,  # FastAPI's own page loads scripts from the network
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": Problem}, 422: {"model": Problem}},
    )
    _add_facts(app, generator, limits)
    _add_jobs(app, generator, queue, limits)
    _add_files(app, queue)
    add_reading(app, room)
    _add_page(app)
    _add_problems(app)
    app.add_middleware(Guard, token=token, open_paths=_OPEN_PATHS, hosts=hosts, most_bytes=limits.upload_bytes)
    return app


# ----------------------------------------------------------------------------------------------- routes


def _add_facts(app: FastAPI, generator: Generator, limits: Limits) -> None:
    @app.get("/statements")
    def statements(
        search: Annotated[str, Query(max_length=100, description="Part of a code or description.")] = "",
    ) -> list[StatementAnswer]:
        """The ECG statements, and whether the model knows them."""
        known = generator.config.vocabulary
        return [
            StatementAnswer(
                code=entry.code,
                description=entry.description,
                groups=entry.groups,
                subclass=entry.subclass,
                superclass=entry.superclass,
                snomed=snomed_code(entry.code),
                known_to_model=known.label_of(entry.code) is not None,
            )
            for entry in all_statements().values()
            if search.lower() in f"{entry.code} {entry.description}".lower()
        ]

    @app.get("/models")
    def models() -> ModelsAnswer:
        """The model, its limits, and the formats it can answer in."""
        return ModelsAnswer(
            models=(_describe(generator),),
            limits=LimitsAnswer(records=limits.records, network_calls=limits.network_calls),
            file_formats=tuple(FORMATS),
            picture_formats=PICTURE_FORMATS,
            layouts=tuple(LAYOUTS),
        )


def _describe(generator: Generator) -> ModelAnswer:
    config = generator.config
    return ModelAnswer(
        name=config.name,
        trained_on=config.trained_on,
        created_by=config.created_by,
        weights_sha256=config.weights_sha256,
        labels=len(config.labels),
        rate_hz=config.rate,
        seconds=generator.length / config.rate,
        samplers={}
        if config.schedule is None
        else {str(name): steps for name, steps in default_steps(config.schedule).items()},
        facts=generator.facts,
    )


def _add_jobs(app: FastAPI, generator: Generator, queue: JobQueue, limits: Limits) -> None:
    @app.post("/jobs", status_code=202)
    def start_job(request: JobRequest, response: Response) -> JobAnswer:
        """Ask for synthetic ECGs. The answer names the job; ask for its state until it has ended."""
        options = SamplingOptions(sampler=request.sampler, steps=request.steps, guidance=request.guidance)
        if isinstance(request, InterpolationRequest):
            request.require_mixable(generator.config.vocabulary)
        _require_within(limits, records=_size_of(request), calls=generator.plan(options).calls)
        status = queue.submit(Order(jobs=request.jobs(), seed=request.seed, options=options))
        response.headers["Location"] = f"/jobs/{status.job_id}"
        return JobAnswer.of(status)

    @app.get("/jobs/{job_id}")
    def job(job_id: str) -> JobAnswer:
        """How far a job is."""
        return JobAnswer.of(queue.status(job_id))

    @app.delete("/jobs/{job_id}")
    def cancel_job(job_id: str) -> JobAnswer:
        """Stop a job. The records it has made stay until they expire."""
        return JobAnswer.of(queue.cancel(job_id))

    @app.get("/jobs/{job_id}/records/{index}")
    def record(job_id: str, index: int) -> RecordAnswer:
        """A record with its samples in mV."""
        return RecordAnswer.of(queue.record(job_id, index))


def _size_of(request: JobRequest) -> int:
    return request.n if request.kind == "samples" else len(request.grades)


def _require_within(limits: Limits, *, records: int, calls: int) -> None:
    if records > limits.records:
        raise ConfigError(f"expected at most {limits.records} records a job, got {records}; send several jobs")
    if records * calls > limits.network_calls:
        raise ConfigError(
            f"expected at most {limits.network_calls} network calls a job, got {records} records of {calls}; "
            "ask for fewer of either"
        )


def _add_files(app: FastAPI, queue: JobQueue) -> None:
    one_at_a_time = threading.Lock()  # drawing is not safe in several threads, and each takes memory

    @contextmanager
    def turn() -> Iterator[None]:
        if not one_at_a_time.acquire(timeout=_WAIT_S):
            raise _BusyError("other files are being made; try again in a minute")
        try:
            yield
        finally:
            one_at_a_time.release()

    def files(job_id: str, first: int, records: Sequence[EcgRecord], format: RecordFormat) -> Response:
        names = [_file_name(job_id, first + offset, record) for offset, record in enumerate(records)]
        with turn():
            return _file(record_files(records, names=names, format=format.value))

    @app.get("/jobs/{job_id}/file", responses=_FILE, response_class=Response)
    def job_file(job_id: str, format: RecordFormat = RecordFormat.WFDB) -> Response:
        """All records a job has made, in a file format; several files come as a zip."""
        return files(job_id, 0, queue.records(job_id), format)

    @app.get("/jobs/{job_id}/records/{index}/file", responses=_FILE, response_class=Response)
    def record_file(job_id: str, index: int, format: RecordFormat = RecordFormat.WFDB) -> Response:
        """A record in a file format; several files come as a zip."""
        return files(job_id, index, [queue.record(job_id, index)], format)

    @app.get("/jobs/{job_id}/records/{index}/plot", responses=_FILE, response_class=Response)
    def record_plot(
        job_id: str,
        index: int,
        format: PictureFormat = PictureFormat.PNG,
        layout: Layout = Layout.THREE_BY_FOUR,
    ) -> Response:
        """A record on ECG paper, 25 mm/s and 10 mm/mV, in true size."""
        record = queue.record(job_id, index)
        name = _file_name(job_id, index, record)
        with turn():
            return _file(record_picture(record, name=name, format=format.value, layout=layout.value))

    @app.post("/convert", responses=_FILE, response_class=Response, openapi_extra=_UPLOAD)
    def convert(
        uploads: Annotated[list[tuple[str, bytes]], Depends(_uploads)],
        format: Annotated[RecordFormat, Query(description="File format to write.")],
    ) -> Response:
        """An ECG file in another format; nothing of it is kept."""
        with turn():
            record, name = uploaded_record(uploads)
            return _file(record_files([record], names=[name], format=format.value))


async def _uploads(request: Request) -> list[tuple[str, bytes]]:
    """Names and contents of the files in a form."""
    async with request.form(max_files=_MOST_UPLOADS) as form:
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        return [(file.filename or "", await file.read()) for file in files]


def _file_name(job_id: str, index: int, record: EcgRecord) -> str:
    """The record's own name; the job's too, as all records between two statement sets have one name."""
    return f"{record.record_id}-{job_id[:6]}-{index:02d}"


def _file(download: Download) -> Response:
    disposition = f'attachment; filename="{quote(download.name)}"'
    return Response(download.content, media_type=download.media_type, headers={"Content-Disposition": disposition})


def _add_page(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/reading", include_in_schema=False)
    def reading() -> FileResponse:
        return FileResponse(PAGE / "reading.html")

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")


# ----------------------------------------------------------------------------------------------- errors


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(EcgforgeError)
    def on_purpose(_request: Request, error: EcgforgeError) -> JSONResponse:
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 503)
        reason, _, remedy = str(error).partition("; ")
        waiting = {"Retry-After": "5"} if status in (429, 503) else None
        return _problem(status, reason, remedy or "see /docs", headers=waiting)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(422, _in_words(error.errors()), "see /docs for what this route takes")

    @app.exception_handler(HTTPException)
    def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, str(error.detail), "see /docs for the routes", headers=error.headers)

    @app.exception_handler(500)
    def unforeseen(_: Request, _error: Exception) -> JSONResponse:
        return _problem(500, "an error within ecgforge", "the service's log has it; please report it")


def _in_words(errors: Sequence[Any]) -> str:
    """What pydantic found: "body.n: Input should be ..."; what was sent stays out, it may be long."""
    # What may be one of two things is complained about as both: leave out that it is no text.
    telling = [entry for entry in errors if entry["type"] != "string_type"] or errors
    return ", ".join(f"{_field_of(entry['loc'])}: {entry['msg']}" for entry in telling[:3])[:500]


def _field_of(place: Sequence[str | int]) -> str:
    """("body", "samples", "statements", "dict[...]", "NORM") -> "body.samples.statements.NORM"."""
    return ".".join(part for part in map(str, place) if "constrained" not in part)


def _problem(status: int, error: str, remedy: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Problem(error=error, remedy=remedy).model_dump(), status_code=status, headers=headers)
