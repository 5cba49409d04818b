import os
from pathlib import Path

import pytest

from imgcls import card
from imgcls.export import certified
from tests.making import publish_tiny

collect_ignore = ["certify"]  # it takes minutes: `make certify`
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty place of its own for data sets and runs."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("IMGCLS_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def cifar_zip():
    """CIFAR-10 as 60,000 JPEG files in a ZIP, where the machine has it."""
    default = REPOSITORY / "../shared/data/cifar10-jpeg.zip"
    path = Path(os.environ.get("IMGCLS_TEST_CIFAR10", default))
    if not path.is_file():
        pytest.skip("no CIFAR-10 archive here; name one in IMGCLS_TEST_CIFAR10")
    return path.resolve()


@pytest.fixture(scope="module")
def asked_once():
    """For certificates in several formats: PyTorch is asked once a model, not once a format."""
    ask, told = certified._answers, {}

    def answers(format, model, folder):
        if model.name != "reference.safetensors":
            return ask(format, model, folder)
        run = card.read(model).run
        if run not in told:
            told[run] = ask(format, model, folder)
        return told[run]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified, "_answers", answers)
        yield


@pytest.fixture
def tiny_dataset(home):
    """The name of a published data set that a model learns in seconds: classes differ by colour."""
    return publish_tiny()
