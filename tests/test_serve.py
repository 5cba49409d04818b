"""A model behind HTTP, asked as strangers would."""

import asyncio
import gc
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from imgcls import predict, runs
from imgcls.errors import ConfigError, DataError
from imgcls.preprocess import LIMITS
from imgcls.serve import app as application
from imgcls.serve import decoding, served
from imgcls.serve.batching import Batcher, Busy
from imgcls.serve.connection import UVICORN
from imgcls.serve.decoding import Decoders
from tests import dying
from tests.making import png

HERE = Path(__file__).parent
EXAMPLES = sorted((runs.ASSETS / "examples").glob("*.jpg"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_HOME", str(tmp_path_factory.mktemp("home")))
        yield served.load(runs.shipped())


def asking(loaded, talk, **limits):
    """Run `talk(client)` against an application that is up, and give back what it returns."""

    async def run():
        made = application.create(loaded, application.Limits(decoders=1, **limits))
        async with made.router.lifespan_context(made):
            transport = httpx.ASGITransport(made, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await talk(client)

    return asyncio.run(run())


def sent(*files):
    return [("files", (name, data, "application/octet-stream")) for name, data in files]


def ask(loaded, *files, query="", **limits):
    async def talk(client):
        return await client.post(f"/predict{query}", files=sent(*files))

    return asking(loaded, talk, **limits)


@pytest.mark.parametrize("backend", served.BACKENDS)
def test_it_answers_as_predict_does(shipped, backend):
    loaded = served.load(runs.shipped(), backend)
    files = [(path.name, path.read_bytes()) for path in EXAMPLES]

    answer = ask(loaded, *files)

    assert answer.status_code == 200
    application.Predictions.model_validate_json(answer.content, strict=True)
    expected = predict.predict(runs.SHIPPED, files)
    for entry, wanted in zip(answer.json()["predictions"], expected, strict=True):
        for name in ("file", "known", "labels", "calibrated", "notes"):
            assert entry[name] == wanted[name]
        assert [one["class"] for one in entry["top"]] == [one["class"] for one in wanted["top"]]
        shares = [[one["probability"] for one in e["top"]] for e in (entry, wanted)]
        assert np.allclose(*shares, atol=1e-4)


def test_a_bad_picture_among_several_is_an_entry_and_alone_a_refusal(shipped):
    good, bad = ("cat.jpg", EXAMPLES[1].read_bytes()), ("page.png", b"<!doctype html>" * 9)

    both = ask(shipped, good, bad)
    alone = ask(shipped, bad)

    assert both.status_code == 200
    assert "an HTML page" in both.json()["predictions"][1]["error"]
    assert alone.status_code == 415
    assert alone.json()["code"] == "unsupported_type"
    assert "an HTML page" in alone.json()["message"]


def blank(width, height):
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


HEAVY = blank(5001, 5000)
LARGEST = blank(5000, 5000)
BROKEN = png()[:-20]
TEXT = b"a text, and no picture at all"


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([bytes(LIMITS["bytes"] + 1)], 413),
        ([HEAVY], 413),
        ([HEAVY, bytes(LIMITS["bytes"] + 1)], 413),
        ([TEXT], 415),
        ([b"GIF89a" + bytes(40), b"%PDF-1.7" + bytes(40)], 415),
        ([b'<svg xmlns="http://www.w3.org/2000/svg"/>'], 415),
        ([BROKEN], 422),
        ([b""], 422),
        ([HEAVY, TEXT], 422),
    ],
)
def test_the_status_says_why_all_pictures_are_refused(shipped, files, status):
    answer = ask(shipped, *((f"{i}.png", data) for i, data in enumerate(files)))

    assert answer.status_code == status
    assert answer.json()["code"] == application.CODES[status]
    assert answer.json()["message"].startswith("0.png: ")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?top=0", 422),
        ("?top=x", 422),
        ("?coverage=0.5", 422),
        ("?coverage=nan", 422),
        ("?top=3", 200),
    ],
)
def test_what_is_asked_for_is_checked(shipped, query, status):
    answer = ask(shipped, ("a.png", png()), query=query)

    assert answer.status_code == status
    if status == 200:
        assert len(answer.json()["predictions"][0]["top"]) == 3
    else:
        assert set(answer.json()) == {"code", "message"}


def test_what_is_no_request_for_pictures_is_refused_in_json(shipped):
    async def talk(client):
        return [
            await client.post("/predict"),
            await client.post("/predict", content=b"x", headers={"content-type": "text/plain"}),
            await client.post(
                "/predict", content=b"--b\r\nrubbish",
                headers={"content-type": "multipart/form-data; boundary=b"},
            ),
            await client.get("/predict"),
            await client.get("/none"),
        ]  # fmt: skip

    found = asking(shipped, talk)

    assert all(400 <= answer.status_code < 500 for answer in found)
    assert all(set(answer.json()) == {"code", "message"} for answer in found)


def test_a_body_too_large_is_refused_while_it_comes(shipped, monkeypatch):
    monkeypatch.setattr(application, "BODY", 100_000)
    read = 0

    async def endless():
        nonlocal read
        yield b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        while read < 50_000_000:
            read += 10_000
            yield bytes(10_000)

    async def talk(client):
        kind = {"content-type": "multipart/form-data; boundary=b"}
        streamed = await client.post("/predict", content=endless(), headers=kind)
        declared = await client.post("/predict", files=sent(("a.png", bytes(200_000))))
        return streamed, declared

    for answer in asking(shipped, talk):
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"
    assert read < 1_000_000


def test_a_body_that_does_not_come_is_given_up(shipped, monkeypatch):
    monkeypatch.setattr(application, "BODY_SECONDS", 0.3)

    async def slow():
        yield b"--b\r\n"
        await asyncio.sleep(30)

    async def talk(client):
        kind = {"content-type": "multipart/form-data; boundary=b"}
        return await client.post("/predict", content=slow(), headers=kind)

    start = time.monotonic()
    answer = asking(shipped, talk)

    assert answer.status_code == 408
    assert time.monotonic() - start < 20


def test_a_token_is_asked_for_where_there_is_one(shipped):
    async def talk(client):
        files = sent(("a.png", png()))
        right = {"authorization": "Bearer secret"}
        return [
            (await client.post("/predict", files=files)).status_code,
            (await client.get("/models")).status_code,
            (await client.get("/metrics")).status_code,
            (await client.post("/predict", files=files, headers=right)).status_code,
            (await client.get("/healthz")).status_code,
            (await client.get("/models", headers={"authorization": "Bearer other"})).status_code,
        ]

    assert asking(shipped, talk, token="secret") == [401, 401, 401, 200, 200, 401]


def test_what_it_tells_of_itself(shipped):
    async def talk(client):
        await client.post(
            "/predict", files=sent(("a.png", png()), ("b.png", b"nothing at all, really"))
        )
        paths = ("/models", "/readyz", "/metrics", "/openapi.json")
        return [await client.get(path) for path in paths]

    models, ready, metrics, document = asking(shipped, talk)

    assert models.json()[0]["classes"] == list(shipped.card.classes)
    assert ready.json() == {"status": "ready"}
    counted = dict(re.findall(r'imgcls_pictures_total\{outcome="(\w+)"\} ([\d.]+)', metrics.text))
    assert counted == {"answered": "1.0", "refused": "1.0"}
    refusals = document.json()["paths"]["/predict"]["post"]["responses"]
    assert set(refusals) == {"200", "400", "408", "413", "415", "422", "429", "503"}


@contextmanager
def up(made, **settings):
    """The port of a server that is up."""
    server = uvicorn.Server(uvicorn.Config(made, port=0, **UVICORN | settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def address(shipped):
    """Of a server that is up."""
    made = application.create(shipped, application.Limits(decoders=1))
    with up(made, log_level="error") as port:
        yield f"http://127.0.0.1:{port}"


LARGE = 30_000_000  # bytes, more than a socket's buffers hold


async def slow(scope, receive, send):
    """An application that reads no body and takes 0.8 s; of /large it says more than fits."""
    await asyncio.sleep(0.8)
    length = LARGE if scope["path"] == "/large" else 2
    head = {"status": 200, "headers": [(b"content-length", str(length).encode())]}
    await send({"type": "http.response.start", **head})
    await send({"type": "http.response.body", "body": bytes(length)})


@pytest.fixture
def port(monkeypatch):
    """Of a server on which a client has 0.5 s to say what it wants."""
    monkeypatch.setattr(application, "HEAD_SECONDS", 0.5)
    with up(slow, lifespan="off") as port:
        yield port


def dribbled(port, first, then):
    """What a server says to a client that sends `first`, then a byte of `then` every 50 ms."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.05) as client:
        client.sendall(first)
        for byte in then:
            try:
                if not (more := client.recv(2**16)):
                    return said
                said += more
            except TimeoutError:
                client.sendall(bytes([byte]))
    raise AssertionError(f"The connection is still open after {said[:200]!r}.")


WHOLE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
WHOLE_LARGE = WHOLE.replace(b"/ ", b"/large ")
ENDLESS = b"x-slow: " + b"a" * 100  # five seconds


@pytest.mark.parametrize(("before", "answers"), [(b"", 0), (WHOLE, 1)], ids=["first", "second"])
def test_headers_that_dribble_are_408(port, before, answers):
    said = dribbled(port, before + WHOLE[:-2], ENDLESS)

    assert said.count(b"HTTP/1.1 200") == answers
    *_, head, body = said.split(b"\r\n\r\n")
    assert b"HTTP/1.1 408" in head
    assert b"connection: close" in head
    assert json.loads(body)["code"] == "timeout"


def test_a_body_that_nobody_reads_holds_no_connection(port):
    head = b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"

    said = dribbled(port, head, bytes(100))

    assert said.startswith(b"HTTP/1.1 200")


def test_a_malformed_chunk_after_an_answer_ends_the_connection_in_silence(port, caplog):
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(head)
        said = client.recv(2**16)
        client.sendall(b"ZZZZ\r\n")
        with suppress(ConnectionResetError):
            said += b"".join(iter(lambda: client.recv(2**16), b""))

    assert said.startswith(b"HTTP/1.1 200")
    assert "Fatal error" not in caplog.text


@pytest.mark.parametrize("first", [b"", WHOLE], ids=["ever", "again"])
def test_a_client_that_says_nothing_is_left_without_a_word(port, first):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(first)
        said = b"".join(iter(lambda: client.recv(2**16), b""))

    assert said.count(b"HTTP/1.1") == (1 if first else 0)


def test_a_client_that_takes_a_large_answer_is_not_cut_off(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(WHOLE_LARGE + WHOLE)
        said = b"".join(iter(lambda: client.recv(2**20), b""))

    assert said.count(b"HTTP/1.1 200") == 2
    assert len(said) > LARGE


def test_an_answer_that_nobody_takes_holds_no_connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(WHOLE_LARGE + WHOLE_LARGE)
        time.sleep(2.5)
        said = 0
        with suppress(ConnectionResetError):
            while more := client.recv(2**20):
                said += len(more)

    assert said < LARGE


def test_more_connections_than_are_allowed_are_503_and_leave_room_for_others(monkeypatch):
    monkeypatch.setattr(application, "CONNECTIONS", 3)
    with up(slow, lifespan="off") as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        refused = httpx.get(f"http://127.0.0.1:{port}/")
        silent.pop().close()
        time.sleep(0.1)
        answered = httpx.get(f"http://127.0.0.1:{port}/")
        for client in silent:
            client.close()

    assert refused.status_code == 503
    assert "3 connections are open" in refused.json()["message"]
    assert refused.headers["connection"] == "close"
    assert answered.status_code == 200


def test_schemathesis_finds_no_answer_that_the_document_does_not_promise(address, tmp_path):
    """A process of its own, for hypothesis has one database and one set of warnings in each."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    found = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", f"{address}/openapi.json",
            "--checks", f"{checks},response_headers_conformance,response_schema_conformance",
            "--max-examples", "15", "--seed", "1", "--generation-deterministic", "--no-color",
            "--suppress-health-check", "all",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "real_pictures", "PYTHONPATH": str(HERE)},
    )  # fmt: skip

    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
    counted = httpx.get(f"{address}/metrics").text
    outcomes = dict(re.findall(r'imgcls_pictures_total\{outcome="(\w+)"\} ([\d.]+)', counted))
    assert float(outcomes["answered"]) > 0
    assert float(outcomes["refused"]) > 0


def test_pictures_that_come_together_are_one_batch():
    sizes = []

    def answer(pictures):
        sizes.append(len(pictures))
        time.sleep(0.02)
        return pictures.reshape(len(pictures), -1)[:, :2].astype(np.float32)

    async def run():
        batcher = Batcher(answer, most=8, bound=100)
        runner = asyncio.create_task(batcher.run())
        pictures = [np.full((2, 2, 3), i, np.uint8) for i in range(20)]
        found = await asyncio.gather(*map(batcher.ask, pictures))
        runner.cancel()
        return found

    found = asyncio.run(run())

    assert [int(one.answer[0]) for one in found] == list(range(20))  # each got its own
    assert sizes == [8, 8, 4]
    assert all(one.waited >= 0 and one.model >= 0.02 for one in found)


def test_a_full_queue_is_busy_and_a_failing_model_fails_its_batch_alone():
    calls = []

    def answer(pictures):
        calls.append(len(pictures))
        if len(calls) == 1:
            raise ValueError("once")
        return np.zeros((len(pictures), 2), np.float32)

    async def run():
        batcher = Batcher(answer, bound=2)
        waiting = [asyncio.create_task(batcher.ask(np.zeros((1, 1, 3), np.uint8))) for _ in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 pictures wait already"):
            await batcher.ask(np.zeros((1, 1, 3), np.uint8))
        runner = asyncio.create_task(batcher.run())
        first = await asyncio.gather(*waiting, return_exceptions=True)
        again = await batcher.ask(np.zeros((1, 1, 3), np.uint8))
        runner.cancel()
        return first, again

    first, again = asyncio.run(run())

    assert all(isinstance(one, ValueError) for one in first)
    assert again.answer.tolist() == [0, 0]


def test_more_than_the_queue_holds_is_429(shipped):
    async def talk(client):
        files = sent(*((f"{i}.png", png(i)) for i in range(8)))
        answers = await asyncio.gather(*(client.post("/predict", files=files) for _ in range(12)))
        return [answer for answer in answers if answer.status_code != 200]

    refused = asking(shipped, talk, queue=1, batch=1)

    assert refused
    assert all(answer.status_code == 429 for answer in refused)
    assert all(answer.headers["retry-after"] == "1" for answer in refused)


@pytest.mark.parametrize("workers", [1, 2])  # one process gets all but the first as one task
def test_a_picture_that_ends_its_process_is_refused_and_those_beside_it_are_not(
    monkeypatch, workers
):
    submit = ProcessPoolExecutor.submit
    monkeypatch.setattr(
        ProcessPoolExecutor, "submit",
        lambda pool, work, *given: submit(pool, dying.decode if given else work, *given),
    )  # fmt: skip

    async def run():
        decoders = Decoders(32, "squash", workers)
        await decoders.warm()
        names = ("a.png", "fatal.png", "b.png", "c.png")
        found = await asyncio.gather(
            *(decoders.decode(name, png()) for name in names), return_exceptions=True
        )
        again = await decoders.decode("d.png", png())
        decoders.close()
        return [*found, again]

    a, refused, *others = asyncio.run(run())

    assert isinstance(refused, DataError)
    assert "fatal.png: decoding it ended its process" in str(refused)
    assert all(seen.pixels.shape == (32, 32, 3) for seen in (a, *others))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the pictures that a process was given to decode, task by task."""
    submit, tasks = ProcessPoolExecutor.submit, []

    def noted(pool, work, *given):
        if given:
            tasks.append([name for name, _ in given[0]])
        return submit(pool, work, *given)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", noted)
    return tasks


def test_pictures_whose_client_has_left_are_not_decoded(decoded):
    async def run():
        decoders = Decoders(32, "squash", 1)
        names = ("first.png", "left.png", "stays.png", "left too.png")
        asked = [asyncio.create_task(decoders.decode(name, png())) for name in names]
        await asyncio.sleep(0)  # the first is at work, the others wait
        asked[1].cancel()
        asked[3].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        decoders.close()
        return found

    found = asyncio.run(run())

    assert decoded == [["first.png"], ["stays.png"]]
    assert [type(one) for one in found[::2]] == [decoding.Seen] * 2


def test_one_who_asks_for_much_does_not_make_others_wait():
    async def run():
        decoders, ended = Decoders(32, "squash", 1), []

        async def ask(asker, data):
            await decoders.decode("a.png", data, asker)
            ended.append(asker)

        await decoders.warm()
        askers = ["much"] * 12 + ["one"] + ["two"] * 2
        pictures = [LARGEST] * 12 + [png()] * 3
        await asyncio.gather(*map(ask, askers, pictures))
        decoders.close()
        return ended

    ended = asyncio.run(run())

    assert sorted(ended) == ["much"] * 12 + ["one"] + ["two"] * 2
    assert {"one", "two"} <= set(ended[:6])


def test_a_picture_behind_a_large_one_has_its_turn_next():
    async def run():
        decoders = Decoders(32, "squash", 1)
        await decoders.warm()
        askers = [str(i) for i in range(8)]
        pictures = [LARGEST, LARGEST, png(), LARGEST, LARGEST, LARGEST, LARGEST, LARGEST]
        ended = []

        async def ask(asker, data):
            await decoders.decode("a.png", data, asker)
            ended.append(asker)

        await asyncio.gather(*map(ask, askers, pictures))
        decoders.close()
        return ended

    assert asyncio.run(run()) == [str(i) for i in range(8)]


def test_a_client_that_leaves_is_not_worked_for(shipped, decoded):
    request = httpx.Request("POST", "http://test/predict", files=sent(*[("a.png", LARGEST)] * 9))
    messages = [{"type": "http.request", "body": request.read()}, {"type": "http.disconnect"}]
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"",
        "headers": headers,
    }  # fmt: skip

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    complaints = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        made = application.create(shipped, application.Limits(decoders=1, batch=1))
        async with made.router.lifespan_context(made):
            await made(scope, receive, send)
        gc.collect()  # only then does asyncio complain of what nobody asked about

    asyncio.run(run())

    assert messages == []
    assert complaints == []
    assert len(decoded) < 9


def test_more_bytes_than_may_be_in_work_are_busy_until_others_are_answered(monkeypatch):
    monkeypatch.setattr(application, "BODIES", 10)

    async def run():
        free = asyncio.Event()

        async def reads(scope, receive, send):
            await receive()
            await free.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def ask(size):
            async def receive():
                return {"type": "http.request", "body": bytes(size)}

            async def send(message):
                statuses.append(message.get("status"))

            statuses = []
            await bounded({"type": "http", "path": "/predict", "headers": []}, receive, send)
            return statuses[0]

        bounded = application.Bounded(reads, "")
        first = asyncio.create_task(ask(6))
        await asyncio.sleep(0)
        refused = await ask(5)
        free.set()
        return refused, await first, await ask(10), bounded.held

    assert asyncio.run(run()) == (429, 200, 200, 0)


def test_more_than_may_wait_to_be_decoded_is_busy():
    async def run():
        decoders = Decoders(32, "squash", 1, bound=2)
        asked = (decoders.decode(f"{i}.png", png()) for i in range(4))
        found = await asyncio.gather(*asked, return_exceptions=True)
        decoders.close()
        return found

    *decoded, busy = asyncio.run(run())

    assert all(seen.pixels.shape == (32, 32, 3) for seen in decoded)  # one at work, two waiting
    assert isinstance(busy, Busy)


def test_a_picture_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "SECONDS", 0.0)

    async def run():
        decoders = Decoders(32, "squash", 1)
        try:
            await decoders.decode("a.png", png())
        finally:
            decoders.close()

    with pytest.raises(DataError, match=r"a\.png: decoding it .* took more than"):
        asyncio.run(run())


def test_an_unknown_backend_is_a_sentence(shipped):
    with pytest.raises(ConfigError, match="No backend 'tpu'"):
        served.load(runs.shipped(), "tpu")
