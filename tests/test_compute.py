"""The children that compute for the pages: results, refusals, time-outs, deaths, memory."""

import os
import time
from concurrent.futures import Future

import psutil
import pytest

from imgcls import config
from imgcls.errors import ConfigError, ImgclsError
from imgcls.ui import compute


def steps(count, *, progress):
    """Report `count` steps."""
    for done in range(count + 1):
        progress(done, count, f"step {done}")
        time.sleep(0.02)
    return count


def where(_=None):
    return os.environ.get("IMGCLS_HOME")


def spawn_and_sleep():
    import subprocess

    with subprocess.Popen(["sleep", "60"]) as child:
        print(child.pid)
        return child.wait()


def test_a_call_gives_what_the_function_returns_and_the_child_stays():
    first = compute.call(os.getpid)

    assert first != os.getpid()
    assert compute.call(os.getpid) == first
    assert compute.call(os.getpid, worker="data") != first


def test_a_refusal_comes_through_unchanged():
    with pytest.raises(ConfigError, match="epochs must be a whole number, got 'x'"):
        compute.call(config.parse, "epochs", "x")


def test_a_call_that_takes_too_long_is_ended_and_the_next_one_works():
    with pytest.raises(ImgclsError, match=r"took longer than 0\.3 s"):
        compute.call(time.sleep, 60, timeout=0.3)

    assert compute.call(int, "7") == 7


def test_what_an_overdue_call_started_is_ended_with_it():
    with pytest.raises(ImgclsError, match="took longer"):
        compute.call(spawn_and_sleep, timeout=1.0)

    time.sleep(0.2)
    mine = psutil.Process().children(recursive=True)
    assert [p.pid for p in mine if p.status() != "zombie" and p.name() == "sleep"] == []


def test_a_child_that_dies_is_replaced():
    with pytest.raises(ImgclsError, match="worker process died, probably out of memory"):
        compute.call(os._exit, 1)

    assert compute.call(int, "7") == 7


def test_memory_beyond_the_bound_is_refused_in_one_sentence():
    if compute.jobs.device_kind(config.TrainConfig()) != "cpu":
        pytest.skip("no bound where CUDA maps its memory")
    with pytest.raises(ImgclsError, match="more than the 4 GB of memory"):
        compute.call(bytes, 5 << 30, worker="data")


def test_an_unexpected_failure_is_one_sentence_without_a_traceback():
    with pytest.raises(ImgclsError, match="failed unexpectedly") as caught:
        compute.call(int, "x")

    assert "Traceback" not in str(caught.value)


def test_what_cannot_be_sent_back_is_a_failure_and_not_a_hang():
    with pytest.raises(ImgclsError, match="failed unexpectedly"):
        compute.call(compute.threading.Lock, timeout=10)


def test_the_child_works_in_the_home_of_the_caller(home, monkeypatch):
    assert compute.call(where) == str(home)

    monkeypatch.setenv("IMGCLS_HOME", str(home / "other"))
    assert compute.call(where) == str(home / "other")


def test_long_work_says_how_far_it_is():
    job = compute.submit(steps, 5, progress=True)

    assert isinstance(job.future, Future)
    assert job.result() == 5
    assert job.progress == (5.0, 5.0, "step 5")


def test_the_child_does_not_bring_torch_unless_a_function_does():
    assert compute.call(eval, "'torch' in __import__('sys').modules", worker="data") is False
