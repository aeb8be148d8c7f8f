"""What the service takes and answers, as its OpenAPI description shows it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ecgforge.errors import LabelError
from ecgforge.evaluation.interpolation import GRADES, mix_statements, require_mixable
from ecgforge.facts import Facts
from ecgforge.labels import LabelVocabulary, all_statements, parse_statements, statement
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplerName
from ecgforge.serving.service.jobs import JobStatus, State

Grade = Annotated[float, Field(gt=0, le=1)]
Grades = Annotated[dict[str, Grade], Field(min_length=1, max_length=len(all_statements()))]
Text = Annotated[str, Field(max_length=2000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

_DECIMALS = 4  # of a sample in mV, as in CSV files
_IF_KNOWN = "Left out it stays open; only for models whose `facts` name it, see /models."


class _Message(BaseModel):
    """A field nobody knows is an error, as in configuration files."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# -------------------------------------------------------------------------------------------- requests


class _Sampling(_Message):
    seed: Seed = Field(0, description="The same seed gives the same records.")
    sampler: SamplerName | None = Field(None, description="By default the one that suits the model.")
    steps: int | None = Field(None, ge=1, le=1000, description="Network calls per record; by default the sampler's.")
    guidance: float | None = Field(
        None, ge=0, le=20, description="How much more to show what is asked for, 1 for none; by default the model's."
    )
    age: float | None = Field(None, description=f"Years; 90 and above are one. {_IF_KNOWN}")
    sex: Literal["female", "male"] | None = Field(None, description=_IF_KNOWN)
    heart_rate: float | None = Field(None, description=f"Beats per minute, from 20 to 300. {_IF_KNOWN}")

    def facts(self) -> Facts:
        """What is asked for besides statements.

        Raises:
            ConfigError: a value no person has.
        """
        return Facts(age=self.age, sex=self.sex, heart_rate=self.heart_rate)


class SampleRequest(_Sampling):
    """Records for one set of statements."""

    kind: Literal["samples"]
    statements: Grades | Text = Field(
        description='Codes with grades, or text such as "IMI:0.5,SR".', examples=[{"IMI": 0.5, "SR": 1.0}]
    )
    n: int = Field(1, ge=1, description="Number of records; record i is drawn from stream i of the seed.")

    def jobs(self) -> tuple[Job, ...]:
        """Record indices, statements and facts.

        Raises:
            LabelError: a statement does not exist.
            ConfigError: a fact is out of range.
        """
        wanted, facts = _statement_set(self.statements), self.facts()
        return tuple(Job(index, wanted, facts) for index in range(self.n))


class InterpolationRequest(_Sampling):
    """One record from the same noise for each grade between two sets of statements."""

    kind: Literal["interpolation"]
    a: Grades | Text = Field(description="Statements at grade 1.", examples=["NORM,SR"])
    b: Grades | Text = Field(description="Statements at grade 0.", examples=["CLBBB,SR"])
    grades: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(GRADES, min_length=1, description="Shares of a.")
    index: Seed = Field(0, description="Record index within the seed: which noise.")

    def require_mixable(self, vocabulary: LabelVocabulary) -> None:
        """Check that something lies between both sets for a model of this vocabulary.

        Raises:
            LabelError: there is not.
        """
        require_mixable(vocabulary, _statement_set(self.a), _statement_set(self.b), alphas=self.grades)

    def jobs(self) -> tuple[Job, ...]:
        """Record indices and facts, all the same, and mixed statements.

        Raises:
            LabelError: a statement does not exist.
            ConfigError: a fact is out of range.
        """
        a, b, facts = _statement_set(self.a), _statement_set(self.b), self.facts()
        return tuple(Job(self.index, mix_statements(a, b, alpha=grade), facts) for grade in self.grades)


JobRequest = Annotated[SampleRequest | InterpolationRequest, Field(discriminator="kind")]


def _statement_set(given: dict[str, float] | str) -> dict[str, float]:
    if isinstance(given, str):
        return parse_statements(given)
    found = {statement(code).code: grade for code, grade in given.items()}
    if len(found) < len(given):
        raise LabelError(f"expected each statement once, got {', '.join(given)}; codes are the same in any case")
    return found


# --------------------------------------------------------------------------------------------- answers


class Problem(_Message):
    """What went wrong, and what to do about it."""

    error: str
    remedy: str


class StatementAnswer(_Message):
    """An ECG statement that can be asked for."""

    code: str
    description: str
    groups: tuple[str, ...]
    subclass: str
    superclass: str
    snomed: str | None
    known_to_model: bool


class ModelAnswer(_Message):
    """A model and what it can be asked."""

    name: str
    trained_on: str
    created_by: str
    weights_sha256: str
    labels: int
    rate_hz: float
    seconds: float
    samplers: dict[str, int] = Field(
        description="Samplers with their default number of steps; none where one call does it."
    )
    facts: tuple[str, ...] = Field(description="Which of age, sex and heart_rate it can be asked for.")


class LimitsAnswer(_Message):
    """What a job may ask for."""

    records: int
    network_calls: int


class ModelsAnswer(_Message):
    """The models of this service, and what else a client has to know."""

    models: tuple[ModelAnswer, ...]
    limits: LimitsAnswer
    file_formats: tuple[str, ...]
    picture_formats: tuple[str, ...]
    layouts: tuple[str, ...]


class JobAnswer(_Message):
    """A job as it is now."""

    id: str
    state: State
    progress: float = Field(description="From 0 to 1.")
    records_done: int = Field(description="Records 0 to records_done - 1 can be fetched.")
    jobs_before: int
    reason: str
    statements: tuple[dict[str, float], ...] = Field(description="What each record was asked for.")

    @classmethod
    def of(cls, status: JobStatus) -> "JobAnswer":
        """The answer that tells of this status."""
        return cls(
            id=status.job_id,
            state=status.state,
            progress=status.share_done,
            records_done=status.records_done,
            jobs_before=status.jobs_before,
            reason=status.reason,
            statements=tuple(dict(statements) for statements in status.statements),
        )


class RecordAnswer(_Message):
    """A synthetic ECG."""

    record_id: str
    synthetic: bool
    source: str
    seed: int | None
    index: int | None
    statements: dict[str, float]
    age: float | None = Field(description="Years, where they were asked for.")
    sex: str | None = Field(description="Where it was asked for.")
    rate_hz: float
    leads: tuple[str, ...]
    signal_mv: list[list[float]] = Field(description="Samples in mV, a row a lead.")

    @classmethod
    def of(cls, record: EcgRecord) -> "RecordAnswer":
        """The answer that holds this record."""
        origin = record.provenance
        return cls(
            record_id=record.record_id,
            synthetic=origin.synthetic,
            source=origin.source,
            seed=origin.seed,
            index=origin.index,
            statements=dict(record.statements),
            age=record.patient.age,
            sex=record.patient.sex,
            rate_hz=record.rate,
            leads=record.leads,
            signal_mv=record.signal.astype(float).round(_DECIMALS).tolist(),
        )
