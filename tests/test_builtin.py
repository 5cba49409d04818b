import gzip
import hashlib
import http.server
import io
import pickle
import socket
import struct
import tarfile
import threading

import numpy as np
import pytest

from imgcls.data import builtin, catalog
from imgcls.errors import DataError

CIFAR_CLASSES = ["airplane", "automobile"]


@pytest.fixture
def serve():
    """Serves bytes by name on loopback; gives the address that they lie under."""
    servers = []

    def start(files):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                data = files.get(self.path.lstrip("/"))
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def nowhere():
    """An address on loopback that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def tiny_cifar():
    """(archive, its images, its files' checksums) in the format of the published one."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    rows = images.transpose(0, 3, 1, 2).reshape(12, -1)
    labels = [0, 1] * 6
    batches = {
        "data_batch_1": {"data": rows[:8], "labels": labels[:8]},
        "test_batch": {"data": rows[8:], "labels": labels[8:]},
        "batches.meta": {"label_names": CIFAR_CLASSES},
    }
    files = {name: pickle.dumps(batch) for name, batch in batches.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue(), images, {name: md5(data) for name, data in files.items()}


@pytest.fixture
def cifar(monkeypatch):
    """Makes torchvision expect a tiny CIFAR-10 at an address; gives its archive and images."""
    from torchvision.datasets import CIFAR10

    archive, images, sums = tiny_cifar()

    def at(address):
        monkeypatch.setattr(CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
        monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
        monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
        meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
        monkeypatch.setattr(CIFAR10, "meta", meta)
        return archive, images

    return at


def test_digits_need_no_network(home):
    dataset = builtin.fetch("digits")

    assert dataset == catalog.load("digits")
    assert dataset.classes == tuple("0123456789")
    assert dataset.total("train") + dataset.total("test") == 1797
    assert min(dataset.counts["test"]) >= 34
    images, labels = catalog.arrays("digits", "train")
    assert images.shape[1:] == (32, 32, 3)
    assert images.max() == 255
    assert labels[:3].tolist() == np.asarray(labels)[:3].tolist()


def test_digits_list_their_originals(home):
    builtin.fetch("digits")

    lines = (catalog.path("digits") / "images.csv").read_text(encoding="utf-8").splitlines()

    assert lines[0].split(",") == list(catalog.IMAGE_COLUMNS)
    assert len(lines) == 1798
    assert lines[1].split(",")[4:9] == ["64", "8", "8", "L", "raw"]


def test_cifar10_is_downloaded_and_published(home, serve, cifar):
    files = {}
    archive, images = cifar(serve(files))
    files["cifar-10-python.tar.gz"] = archive
    said = []

    dataset = builtin.fetch("cifar10", lambda share, text: said.append((share, text)))

    assert dataset.classes == tuple(CIFAR_CLASSES)
    assert dataset.counts == {"train": [4, 4], "test": [2, 2]}
    assert (catalog.arrays("cifar10", "train")[0] == images[:8]).all()
    assert (catalog.arrays("cifar10", "test")[0] == images[8:]).all()
    assert said[-1] == (1.0, "Done")
    assert [share for share, _ in said] == sorted(share for share, _ in said)


def test_an_archive_put_in_place_needs_no_network(home, nowhere, cifar):
    archive, images = cifar(nowhere)
    builtin.downloads().mkdir()
    (builtin.downloads() / "cifar-10-python.tar.gz").write_bytes(archive)

    builtin.fetch("cifar10")

    assert (catalog.arrays("cifar10", "train")[0] == images[:8]).all()


def test_without_network_the_sentence_says_how_to_go_on(home, nowhere, cifar):
    cifar(nowhere)

    with pytest.raises(DataError) as refusal:
        builtin.fetch("cifar10")

    assert str(refusal.value) == (
        "CIFAR-10 could not be downloaded (Connection refused): retry when online, put the "
        "published archive at home/downloads/cifar-10-python.tar.gz, "
        "or import a folder or ZIP of images."
    )
    assert catalog.names() == []


def test_an_archive_that_is_gone_is_said(home, serve, cifar):
    cifar(serve({}))

    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded \(Not Found\)"):
        builtin.fetch("cifar10")


def test_a_wrong_archive_is_refused(home, serve, cifar):
    cifar(serve({"cifar-10-python.tar.gz": b"something else"}))

    with pytest.raises(DataError, match="is not the published one or is incomplete"):
        builtin.fetch("cifar10")

    assert catalog.names() == []


def test_a_download_that_stalls_is_given_up(home, monkeypatch, cifar):
    monkeypatch.setattr(builtin, "STALL", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cifar(f"http://127.0.0.1:{silent.getsockname()[1]}/")

        with pytest.raises(DataError, match="no data for 0 seconds"):
            builtin.fetch("cifar10")


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def mnist(monkeypatch):
    from torchvision.datasets import MNIST

    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = np.arange(30, dtype=np.uint8) % 10
    arrays = (images[:20], labels[:20], images[20:], labels[20:])
    names = [name for name, _ in MNIST.resources]
    files = {name: idx(array) for name, array in zip(names, arrays, strict=True)}
    monkeypatch.setattr(MNIST, "resources", [(name, md5(data)) for name, data in files.items()])

    def at(address):
        monkeypatch.setattr(MNIST, "mirrors", [address])
        return files, images

    return at


def test_mnist_is_padded_to_32_pixels(home, serve, mnist):
    files, images = mnist("")
    mnist(serve(files))

    dataset = builtin.fetch("mnist")

    stored, labels = catalog.arrays("mnist", "train")
    assert dataset.classes == tuple("0123456789")
    assert stored.shape == (20, 32, 32, 3)
    assert (stored[:, 2:-2, 2:-2, 1] == images[:20]).all()
    assert stored[:, :2].max() == 0
    assert labels.tolist() == [i % 10 for i in range(20)]


def test_without_network_mnist_names_its_four_archives(home, nowhere, mnist):
    mnist(nowhere)

    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz\), or import a folder"):
        builtin.fetch("mnist")


def test_progress_is_the_share_of_bytes_on_disk(home):
    assert builtin.download_progress("cifar10") == 0

    builtin.downloads().mkdir()
    with (builtin.downloads() / "cifar-10-python.tar.gz").open("wb") as file:
        file.truncate(170_498_071 // 2)

    assert builtin.download_progress("cifar10") == pytest.approx(0.5, abs=1e-6)
    assert builtin.download_progress("digits") == 1


def test_a_name_that_is_not_built_in_is_refused(home):
    with pytest.raises(DataError, match="Choose one of: digits, cifar10, cifar100, mnist"):
        builtin.fetch("imagenet")


def test_a_data_set_that_is_there_is_not_fetched_again(home):
    builtin.fetch("digits")

    with pytest.raises(DataError, match="'digits' is on disk already"):
        builtin.fetch("digits")
