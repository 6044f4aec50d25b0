"""The example by its command line, in a short form."""
import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--trees", "48", "--hidden", "8", "--embed", "8"]


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, str(ROOT / "examples" / "sentiment.py"), *map(str, arguments)],
            "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def run(*arguments):
    return subprocess.run(**command(*SHORT, *arguments), check=False)


def records(folder):
    """What was logged of each epoch, less the time it took."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("sentiment")
    done = run("--out", out, "--epochs", 1, "--quiet")
    assert done.returncode == 0, done.stderr
    return out, done


def test_prints_both_models(short_run):
    _, done = short_run
    assert "| tree-lstm |" in done.stdout and "| bag-of-words |" in done.stdout
    assert "gap on the test set" in done.stdout


def test_writes_files(short_run):
    out, _ = short_run
    for name in ("run.json", "results.json", "log.txt", "tree-lstm/best.params", "bag-of-words/best.params",
                 "export/sentiment-symbol.json", "export/sentiment-0000.params", "export/vocab.json"):
        assert (out / name).stat().st_size > 0, name
    assert not list(out.rglob("*.part"))
    about = json.loads((out / "run.json").read_text())
    assert about["arguments"]["trees"] == 48 and about["seed"] == 0 and about["versions"]["mxnet"]


def test_draws_the_curves(short_run):
    pytest.importorskip("matplotlib")
    assert (short_run[0] / "training.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_are_finite(short_run):
    out, _ = short_run
    for name in ("tree-lstm", "bag-of-words"):
        (epoch,) = records(out / name)
        assert math.isfinite(epoch["loss"]) and 0 <= epoch["dev"] <= 1
        with open(out / name / "log.csv", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        assert float(row["loss"]) == epoch["loss"]
    results = json.loads((out / "results.json").read_text())
    assert results["tree-lstm"]["import_difference"] < 1e-4
    assert results["bag-of-words"]["parameters"] >= results["tree-lstm"]["parameters"]
    assert all(0 <= r["test"] <= 1 for r in results.values())


@pytest.mark.slow
def test_resume_equals_an_uninterrupted_run(tmp_path):
    for arguments in (["one", 1], ["one", 2, "--resume"], ["two", 2]):
        done = run("--out", tmp_path / arguments[0], "--epochs", *arguments[1:], "--no-baseline", "--quiet")
        assert done.returncode == 0, done.stderr
    resumed, straight = tmp_path / "one" / "tree-lstm", tmp_path / "two" / "tree-lstm"
    assert len(records(straight)) == 2
    assert records(resumed) == records(straight)
    # the file of parameters may hold other bytes between the arrays, so compare what is in it
    from recursive_gluon._compat import mx
    one, two = (mx.nd.load(str(folder / "last-0002.params")) for folder in (resumed, straight))
    assert one.keys() == two.keys()
    assert all((one[name].asnumpy() == two[name].asnumpy()).all() for name in one)


def test_resume_refuses_other_options(short_run):
    done = run("--out", short_run[0], "--resume", "--lr", "0.5")
    assert done.returncode == 2
    assert "the options differ (lr: 0.05 before, 0.5 now)" in done.stderr


@pytest.mark.slow
def test_interrupt_leaves_whole_epochs(tmp_path):
    endless = ["--out", tmp_path, "--patience", 10_000]
    process = subprocess.Popen(**command(*SHORT, *endless, "--epochs", 10_000))
    state = tmp_path / "tree-lstm" / "state.json"
    while not state.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "--resume goes on" in errors
    whole = len(records(tmp_path / "tree-lstm"))
    done = run(*endless, "--epochs", whole + 1, "--resume", "--no-baseline", "--quiet")
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path / "tree-lstm")) == whole + 1


def test_binary_on_files(tmp_path):
    from recursive_gluon.data import generate_treebank, write_ptb
    trees = generate_treebank(60, seed=3)
    for name, part in (("train", trees[:40]), ("dev", trees[40:50]), ("test", trees[50:])):
        write_ptb(str(tmp_path / f"{name}.txt"), part)
    words = sorted({word.lower() for tree in trees for word in tree["word"] if word is not None})
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} {n / 100} {-n / 100} 0.1\n" for n, word in enumerate(words)))
    done = run("--out", tmp_path / "out", "--data", tmp_path, "--vectors", vectors, "--binary", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "32 train trees, 8 dev trees, 8 test trees" in done.stderr  # a fifth of the sentences is neutral
    (epoch,) = records(tmp_path / "out" / "tree-lstm")
    assert math.isfinite(epoch["loss"])
