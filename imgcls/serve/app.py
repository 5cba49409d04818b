"""The HTTP application: what it takes, what it answers, and what it refuses."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, File, Header, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import imgcls
from imgcls.errors import DataError
from imgcls.evaluate.calibrate import COVERAGES
from imgcls.preprocess import LIMITS, printable
from imgcls.serve.batching import Batcher, Busy
from imgcls.serve.decoding import Decoders
from imgcls.serve.served import Served

FILES = 64  # pictures a request
BODY = 64 * 2**20  # bytes a request
BODY_SECONDS = 30.0  # for a request's body to come in
ANSWER_SECONDS = 30.0  # for a picture to be answered
CODES = {
    400: "malformed", 401: "unauthorized", 404: "not_found", 405: "not_allowed", 408: "timeout",
    413: "too_large", 415: "unsupported_type", 422: "unusable", 429: "busy", 503: "not_ready",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a server takes upon itself."""

    batch: int = 64  # pictures at most; 1 turns batching off
    patience: float = 0.002  # seconds that a lonely picture waits for others
    queue: int = 256  # pictures that may wait
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
    meters = Meters()
    batcher = Batcher(served.logits, limits.batch, limits.patience, limits.queue)
    state: dict[str, Any] = {"ready": False}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        size = served.card.size
        state["decoders"] = Decoders(size, served.card.fit, limits.decoders)
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
        responses={code: {"model": Problem} for code in (400, 401, 413, 422, 429, 503)},
    )
    app.add_middleware(Bounded)
    _handle(app)

    def allowed(authorization: Annotated[str | None, Header()] = None) -> None:
        wanted = f"Bearer {limits.token}".encode()
        given = (authorization or "").encode("utf-8", "replace")
        if limits.token and not hmac.compare_digest(given, wanted):
            raise HTTPException(401, "Send the header: Authorization: Bearer TOKEN.")

    @app.post("/predict", dependencies=[Depends(allowed)], response_model_exclude_none=False)
    async def predict(
        files: Annotated[list[UploadFile], File(description="PNG, JPEG or WebP, one or many")],
        top: Annotated[int, Query(ge=1, le=1000)] = 5,
        coverage: Annotated[float, Query(description=f"one of {COVERAGES}")] = 0.95,
    ) -> Predictions:
        """Say what is on pictures. A bad one among several is an entry with `error`."""
        if not state["ready"]:
            raise HTTPException(503, "The server is starting or ending: ask again in a moment.")
        if coverage not in COVERAGES:
            raise HTTPException(422, f"coverage must be one of {COVERAGES}, got {coverage:g}.")
        if len(files) > FILES:
            raise HTTPException(413, f"{len(files)} pictures are more than {FILES} a request.")
        start = time.perf_counter()
        tasks = [one(file, top, coverage) for file in files]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        meters.seconds.labels("all").observe(time.perf_counter() - start)
        entries, problems = [], []
        for file, entry in zip(files, found, strict=True):
            if isinstance(entry, DataError):
                problems.append(str(entry))
                entry = {"file": printable(file.filename or "picture"), "error": str(entry)}
            elif isinstance(entry, Busy):
                raise HTTPException(429, str(entry), {"Retry-After": "1"})
            elif isinstance(entry, TimeoutError):
                raise HTTPException(503, f"No answer within {ANSWER_SECONDS:.0f} s: ask again.")
            elif isinstance(entry, BaseException):
                raise entry
            entries.append(entry)
        meters.pictures.labels("answered").inc(len(entries) - len(problems))
        meters.pictures.labels("refused").inc(len(problems))
        if len(problems) == len(files):
            raise HTTPException(422, problems[0])
        return Predictions.model_validate({"model": served.name, "predictions": entries})

    async def one(file: UploadFile, top: int, coverage: float) -> dict[str, Any]:
        name = file.filename or "picture"
        data = await file.read(LIMITS["bytes"] + 1)
        start = time.perf_counter()
        seen = await state["decoders"].decode(name, data)
        meters.seconds.labels("decoding").observe(time.perf_counter() - start)
        meters.waiting.set(batcher.queue.qsize())
        timed = await asyncio.wait_for(batcher.ask(seen.pixels), ANSWER_SECONDS)
        meters.seconds.labels("waiting").observe(timed.waited)
        meters.seconds.labels("model").observe(timed.model)
        meters.batch.observe(timed.batch)
        entry = served.entry(timed.logits, seen.pixels, top, coverage)
        return {"file": printable(name), **entry, "notes": list(seen.notes)}

    @app.get("/models", dependencies=[Depends(allowed)])
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

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether it answers."""
        if not state["ready"]:
            raise HTTPException(503, "The server is starting or ending: ask again in a moment.")
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters and times, as Prometheus reads them."""
        return Response(generate_latest(meters.registry), media_type="text/plain; version=0.0.4")

    return app


class Meters:
    """What is counted; each application has its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.pictures = Counter(
            "imgcls_pictures", "Pictures by outcome.", ["outcome"], registry=registry
        )
        self.batch = Histogram(
            "imgcls_batch_pictures", "Pictures a batch, once a picture.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry,
        )  # fmt: skip
        self.waiting = Gauge("imgcls_waiting_pictures", "Pictures in the queue.", registry=registry)
        self.seconds = Histogram(
            "imgcls_seconds", "Where a picture's time goes; `all` is a request's.", ["part"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )  # fmt: skip


class Bounded:
    """Ends requests whose body is too large, as it streams, or too slow."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                refused = 408, f"The body did not come within {BODY_SECONDS:.0f} s."
                raise _Refused from None
            taken += len(message.get("body", b""))
            if taken > BODY:
                refused = 413, f"The body exceeds {BODY >> 20} MB."
                raise _Refused
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal begun
            if refused is not None and not begun:
                return  # what the application makes of its broken body
            begun = True
            await send(message)

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > BODY:
            refused = 413, f"The body exceeds {BODY >> 20} MB."
        else:
            with suppress(_Refused):
                await self.app(scope, bounded, answer)
        if refused is not None and not begun:
            response = _problem(*refused)
            response.headers["connection"] = "close"
            await response(scope, receive, send)


class _Refused(Exception):
    pass


def _handle(app: FastAPI) -> None:
    """Every refusal is JSON with a code and a sentence."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _problem(422, f"{printable(where)}: {printable(str(first['msg']))}.")


def _problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    code = CODES.get(status, "error")
    return JSONResponse({"code": code, "message": message}, status, headers)
