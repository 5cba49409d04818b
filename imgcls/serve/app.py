"""The HTTP application: what it takes, what it answers, and what it refuses."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, File, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import imgcls
from imgcls.errors import DataError, ModelError, TooLargeError, WrongTypeError
from imgcls.evaluate.calibrate import COVERAGES
from imgcls.preprocess import LIMITS, printable
from imgcls.serve.batching import Batcher, Busy
from imgcls.serve.decoding import Decoders
from imgcls.serve.served import Served

FILES = 64  # pictures a request
BODY = 64 * 2**20  # bytes a request
BODIES = 8 * BODY  # bytes of all requests that are being read or answered
HEAD_SECONDS = 20.0  # for a request's line and headers to come in
BODY_SECONDS = 30.0  # for a request's body to come in
CONNECTIONS = 128  # open at a time
OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")  # also without the token
ANSWER_SECONDS = 30.0  # for a picture to be answered
DECODED = 16  # pictures that one process decodes at a time, at most
CODES = {
    400: "malformed", 401: "unauthorized", 404: "not_found", 405: "not_allowed", 408: "timeout",
    413: "too_large", 415: "unsupported_type", 422: "unusable", 429: "busy", 503: "not_ready",
}  # fmt: skip
REFUSALS = {TooLargeError: 413, WrongTypeError: 415}  # of pictures; 422 for others

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a server takes upon itself."""

    batch: int = 16  # pictures at most; 1 turns batching off, of decoding too
    patience: float = 0.002  # seconds that a lonely picture waits for others
    queue: int = 512  # pictures that may wait, to be decoded and again for the model
    decoders: int = 2  # processes
    token: str = ""  # that requests have to bring; none where empty


class Likely(BaseModel):
    """A class and its probability."""

    name: str = Field(alias="class", examples=["cat"])
    probability: float = Field(examples=[0.93])


class Prediction(BaseModel):
    """What the model says of one picture, or in `error` why it says nothing."""

    file: str = Field(examples=["mine.jpg"])
    top: list[Likely] = Field(default=[], description="the likeliest classes first")
    calibrated: bool = False
    known: bool | None = Field(
        default=None, description="false for a picture unlike all that the model knows"
    )
    labels: list[str] | None = Field(
        default=None, description="classes that hold the true one with the coverage asked for"
    )
    notes: list[str] = []
    error: str | None = None


class Predictions(BaseModel):
    """An answer: one entry a picture, in their order."""

    model: str = Field(examples=["shipped"])
    predictions: list[Prediction]


class Problem(BaseModel):
    """What went wrong, in a word and in a sentence."""

    code: str = Field(examples=["unusable"])
    message: str = Field(examples=["mine.jpg: a text file, not a PNG, JPEG or WebP image."])


def create(served: Served, limits: Limits) -> FastAPI:
    """The application; it decodes and answers while its lifespan lasts."""
    batcher = Batcher(served.judged, limits.batch, limits.patience, limits.queue)
    meters = Meters(batcher.queue.qsize)
    state: dict[str, Any] = {"ready": False}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        size = served.card.size
        state["decoders"] = Decoders(
            size, served.card.fit, limits.decoders, min(limits.batch, DECODED), limits.queue
        )
        runner = asyncio.create_task(batcher.run())
        await state["decoders"].warm()
        await batcher.ask(np.zeros((size, size, 3), np.uint8))
        state["ready"] = True
        yield
        state["ready"] = False
        runner.cancel()
        state["decoders"].close()

    app = FastAPI(
        title="imgcls",
        version=imgcls.__version__,
        description=f"Classifies pictures with {printable(served.name)}.",
        lifespan=lifespan,
    )
    app.add_middleware(Bounded, token=limits.token)
    _handle(app)

    async def allowed(
        given: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
    ) -> None:
        """For the document: who comes without the token is sent away by `Bounded` already."""

    guarded = [Depends(allowed)] if limits.token else []
    unauthorized = (401,) if limits.token else ()

    @app.post(
        "/predict", dependencies=guarded, response_model=Predictions,
        responses=_problems(400, *unauthorized, 408, 413, 415, 422, 429, 503),
    )  # fmt: skip
    async def predict(
        request: Request,
        files: Annotated[list[UploadFile], File(description="PNG, JPEG or WebP, one or many")],
        top: Annotated[int, Query(ge=1, le=1000)] = 5,
        coverage: Annotated[float, Query(json_schema_extra={"enum": list(COVERAGES)})] = 0.95,
    ) -> Response:
        """Say what is on pictures. A bad one among several is an entry with `error`.

        Where all are refused the status is 413 for ones too large, 415 for ones of another type,
        and 422 for others or for several reasons.
        """
        if not state["ready"]:
            raise HTTPException(503, "The server is starting or ending: ask again in a moment.")
        if coverage not in COVERAGES:
            raise HTTPException(422, f"coverage must be one of {COVERAGES}, got {coverage:g}.")
        if len(files) > FILES:
            raise HTTPException(413, f"{len(files)} pictures are more than {FILES} a request.")
        start = time.perf_counter()
        tasks = [one(request, file, top, coverage) for file in files]
        found = await _unless_left(request, asyncio.gather(*tasks, return_exceptions=True))
        entries: list[dict[str, Any]] = []
        problems: list[DataError] = []
        for file, entry in zip(files, found, strict=True):
            if isinstance(entry, DataError):
                problems.append(entry)
                name = printable(file.filename or "picture")
                entry = Prediction(file=name, error=str(entry)).model_dump(by_alias=True)
            elif isinstance(entry, Busy):
                raise HTTPException(429, str(entry), {"Retry-After": "1"})
            elif isinstance(entry, TimeoutError):
                raise HTTPException(503, f"No answer within {ANSWER_SECONDS:.0f} s: ask again.")
            elif isinstance(entry, ModelError):
                raise HTTPException(503, str(entry))
            elif isinstance(entry, BaseException):
                raise entry
            entries.append(entry)
        meters.answered.inc(len(entries) - len(problems))
        meters.refused.inc(len(problems))
        meters.all.observe(time.perf_counter() - start)
        if len(problems) == len(files):
            reasons = {type(problem) for problem in problems}
            status = REFUSALS.get(reasons.pop(), 422) if len(reasons) == 1 else 422
            raise HTTPException(status, str(problems[0]))
        # Checked against Predictions by the tests; for each request pydantic takes too long.
        answer = {"model": served.name, "predictions": entries}
        return Response(json.dumps(answer), media_type="application/json")

    async def one(asker: object, file: UploadFile, top: int, coverage: float) -> dict[str, Any]:
        name = file.filename or "picture"
        data = await file.read(LIMITS["bytes"] + 1)
        start = time.perf_counter()
        async with asyncio.timeout(ANSWER_SECONDS):
            seen = await state["decoders"].decode(name, data, asker)
            meters.decoding.observe(time.perf_counter() - start)
            timed = await batcher.ask(seen.pixels)
        meters.waiting.observe(timed.waited)
        meters.model.observe(timed.model)
        meters.batch.observe(timed.batch)
        entry = served.entry(timed.answer, top, coverage)
        return {"file": printable(name), **entry, "notes": seen.notes, "error": None}

    @app.get("/models", dependencies=guarded, responses=_problems(*unauthorized))
    async def models() -> list[dict[str, Any]]:
        """The model that is served, with what it knows."""
        about = served.card
        return [
            {
                "name": served.name, "backend": served.backend, "classes": about.classes,
                "size": about.size, "recipe": about.recipe, "dataset": about.dataset,
                "val_accuracy": about.val_accuracy, "calibrated": served.trust is not None,
                "coverages": COVERAGES,
            }
        ]  # fmt: skip

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", responses=_problems(503))
    async def readyz() -> dict[str, str]:
        """Whether it answers."""
        if not state["ready"]:
            raise HTTPException(503, "The server is starting or ending: ask again in a moment.")
        return {"status": "ready"}

    @app.get(
        "/metrics", dependencies=guarded, response_class=PlainTextResponse,
        responses=_problems(*unauthorized),
    )  # fmt: skip
    async def metrics() -> Response:
        """Counters and times, as Prometheus reads them."""
        return Response(generate_latest(meters.registry), media_type="text/plain; version=0.0.4")

    return app


async def _unless_left(request: Request, answers: asyncio.Future[T]) -> T:
    """What is waited for, given up as soon as its client leaves: others wait behind it."""
    leaving = asyncio.ensure_future(request.receive())  # all else that it can say is read
    await asyncio.wait((answers, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not answers.done():
        answers.cancel()
        with suppress(asyncio.CancelledError):
            await answers  # until no picture is read any more
        raise HTTPException(408, "The client has left.")  # which nobody hears
    return answers.result()


class Meters:
    """What is counted; each application has its own."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        registry = self.registry = CollectorRegistry()
        pictures = Counter(
            "imgcls_pictures", "Pictures by outcome.", ["outcome"], registry=registry
        )
        self.answered, self.refused = pictures.labels("answered"), pictures.labels("refused")
        self.batch = Histogram(
            "imgcls_batch_pictures", "Pictures a batch, once a picture.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry,
        )  # fmt: skip
        queued = Gauge("imgcls_waiting_pictures", "Pictures in the queue.", registry=registry)
        queued.set_function(waiting)
        seconds = Histogram(
            "imgcls_seconds", "Where a picture's time goes; `all` is a request's.", ["part"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )  # fmt: skip
        self.all, self.decoding = seconds.labels("all"), seconds.labels("decoding")
        self.waiting, self.model = seconds.labels("waiting"), seconds.labels("model")


class Bounded:
    """Ends requests without the token, unread, and those too large or too slow as they stream."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        self.held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused: tuple[int, str] | None = None
        begun, taken = False, 0
        deadline = time.monotonic() + BODY_SECONDS
        complete = False

        async def bounded() -> Message:
            nonlocal refused, taken, complete
            if complete:  # what comes now is the client's leaving, for which there is time
                return await receive()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                refused = 408, f"The body did not come within {BODY_SECONDS:.0f} s."
                raise _Refused from None
            taken += (size := len(message.get("body", b"")))
            self.held += size
            if taken > BODY:
                refused = 413, f"The body exceeds {BODY >> 20} MB."
                raise _Refused
            if self.held > BODIES:
                refused = 429, f"{BODIES >> 20} MB are in work already: ask again in a moment."
                raise _Refused
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal begun
            if refused is not None and not begun:
                return  # what the application makes of its broken body
            begun = True
            await send(message)

        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if self.token and scope["path"] not in OPEN and not self._brought(headers):
            refused = 401, "Send the header: Authorization: Bearer TOKEN."
        elif declared.isdigit() and int(declared) > BODY:
            refused = 413, f"The body exceeds {BODY >> 20} MB."
        else:
            try:
                with suppress(_Refused):
                    await self.app(scope, bounded, answer)
            finally:
                self.held -= taken
        if refused is not None and not begun:
            response = problem(*refused)
            response.headers["connection"] = "close"
            if refused[0] == 401:
                response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send)

    def _brought(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token, self.token.encode())


class _Refused(Exception):
    pass


def _handle(app: FastAPI) -> None:
    """Every refusal is JSON with a code and a sentence."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, f"{printable(where)}: {printable(str(first['msg']))}.")


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of refusals."""
    return {status: {"model": Problem, "description": CODES[status]} for status in statuses}


def problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    """A refusal: `Problem` as JSON."""
    code = CODES.get(status, "error")
    return JSONResponse({"code": code, "message": message}, status, headers)
