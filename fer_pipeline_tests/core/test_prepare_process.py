"""What `prepare_process` does to a process, seen in one of its own: TensorFlow starts once."""

import json
import subprocess
import sys

import pytest

_CALLS = """
import json, logging, sys

said = []

class Kept(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())

logging.getLogger("fer_pipeline").addHandler(Kept())
from fer_pipeline.core.train import prepare_process

found = []
for threads in json.loads(sys.argv[1]):
    said.clear()
    prepare_process(0, threads)
    import keras
    import numpy as np
    import tensorflow as tf

    drawn = float(keras.random.normal((1,))[0])
    threads_now = tf.config.threading.get_intra_op_parallelism_threads()
    found.append([list(said), threads_now, drawn, float(np.random.random())])
print(json.dumps(found))
"""


def _called(*threads: int | None) -> list[list]:
    ended = subprocess.run(
        [sys.executable, "-c", _CALLS, json.dumps(threads)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def one_thread():
    return _called(1, 1, None, 2)


def test_same_threads_again_or_none_named_change_nothing_and_say_nothing(one_thread):
    first, again, unnamed, _ = one_thread
    assert [said for said, *_ in (first, again, unnamed)] == [[], [], []]
    assert [threads for _, threads, *_ in one_thread] == [1, 1, 1, 1]


def test_each_call_seeds_anew(one_thread):
    assert len({(drawn, other) for _, _, drawn, other in one_thread}) == 1


def test_threads_that_tensorflow_can_no_longer_take_are_a_warning(one_thread):
    (words,) = one_thread[-1][0]
    assert "started with 1 thread(s) in this process and stays with that" in words
    assert "the 2 thread(s) asked for" in words


def test_process_that_started_with_all_cores_stays_with_them():
    started, asked = _called(None, 2)
    assert started[:2] == [[], 0]
    (words,) = asked[0]
    assert "started with all cores" in words
    assert asked[1] == 0
