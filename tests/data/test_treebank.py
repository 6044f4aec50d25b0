import subprocess
import sys

import numpy as np
import pytest

from recursive_gluon.data.ptb import read_ptb
from recursive_gluon.data.treebank import generate_treebank, label_of, main

FIRST = ("(3 (3 (4 (4 (2 (2 his) (2 dream)) (4 (4 electrifies) (2 (2 their) (2 drama)))) (2 ,))"
         " (3 (2 yet) (3 (2 (2 (2 its) (2 theory)) (2 (2 near) (2 (2 its) (2 artist)))) (3 (2 "
         "scarcely) (1 (2 shows) (1 (2 his) (1 (1 (3 (2 never) (1 cold)) (0 (2 and) (0 "
         "unbearable))) (2 town)))))))) (2 .))")


@pytest.fixture(scope="module")
def bank():
    return generate_treebank(1500, seed=3)


def test_shape_of_the_treebank(bank):
    leaves = [tree.num_leaves for tree in bank]
    assert min(leaves) >= 4 and max(leaves) <= 40 and len(set(leaves)) > 15
    assert all(set(np.diff(tree.child_offsets)) == {0, 2} for tree in bank)
    assert len({tree.to_ptb() for tree in bank}) == len(bank)
    assert np.bincount([tree["label"][-1] for tree in bank]).tolist() == [300] * 5
    assert 200 < len({word for tree in bank for word in tree["word"] if word}) < 500


def test_the_seed_decides(bank):
    assert generate_treebank(50, seed=3) == bank[:50]
    assert generate_treebank(50, seed=4) != bank[:50]


def test_the_same_on_every_machine():
    assert generate_treebank(1)[0].to_ptb() == FIRST


def test_labels():
    assert [label_of(score) for score in (-2, -1.4, -0.5, 0, 0.4, 1, 1.5, 2)] == [0, 0, 1, 2, 2, 3, 4, 4]


def test_a_bag_of_words_stays_behind(bank):
    """Multinomial logistic regression on word counts; composition, not the words, makes the label."""
    vocabulary = sorted({word for tree in bank for word in tree["word"] if word})
    words = {word: index for index, word in enumerate(vocabulary)}
    counts = np.zeros((len(bank), len(words) + 1))
    counts[:, -1] = 1
    for row, tree in zip(counts, bank):
        for word in tree["word"]:
            if word is not None:
                row[words[word]] += 1
    labels = np.array([tree["label"][-1] for tree in bank])
    train, weights, scale = 1200, np.zeros((counts.shape[1], 5)), 1e-8
    for _ in range(200):
        scores = np.exp(counts[:train] @ weights)
        error = scores / scores.sum(1, keepdims=True) - np.eye(5)[labels[:train]]
        gradient = counts[:train].T @ error / train + 1e-3 * weights
        scale = scale + gradient ** 2
        weights -= 0.1 * gradient / np.sqrt(scale)
    accuracy = ((counts[train:] @ weights).argmax(1) == labels[train:]).mean()
    assert 0.2 < accuracy < 0.6


def test_writing(tmp_path, capsys):
    main(["--out", str(tmp_path / "bank"), "--train", "20", "--dev", "5", "--test", "5", "--seed", "1"])
    parts = [read_ptb(tmp_path / "bank" / f"{name}.txt") for name in ("train", "dev", "test")]
    assert sum(parts, []) == generate_treebank(30, seed=1)
    assert "20 trees" in capsys.readouterr().out


def test_the_command(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "recursive_gluon.data.treebank"]
    options = ["--out", str(tmp_path), "--train", "5", "--dev", "5", "--test", "5"]
    subprocess.run([*command, *options], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.txt", "test.txt", "train.txt"]
