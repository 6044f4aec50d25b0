"""The cells and networks as direct NumPy formulas, one node at a time; the tests compare with these."""
import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def values(block):
    """Parameters as float64 arrays, by name without the block's prefix."""
    return {name[len(block.prefix):]: p.data().asnumpy().astype(np.float64)
            for name, p in block.collect_params().items()}


def lstm_leaf(p, x):
    i, o, u = np.split(p["leaf_weight"] @ x + p["leaf_bias"], 3)
    c = sigmoid(i) * np.tanh(u)
    return sigmoid(o) * np.tanh(c), c


def lstm_node(p, left, right):
    (hl, cl), (hr, cr) = left, right
    n = len(hl)
    rows = [slice(k * n, (k + 1) * n) for k in range(5)]
    # U_f^{kl}: the forget gate of child k has a matrix for each child l
    i, o, fl, fr, u = (p["node_weight"][r, :n] @ hl + p["node_weight"][r, n:] @ hr + p["node_bias"][r]
                       for r in rows)
    c = sigmoid(i) * np.tanh(u) + sigmoid(fl) * cl + sigmoid(fr) * cr
    return sigmoid(o) * np.tanh(c), c


def rnn_node(p, hl, hr, activation=np.tanh):
    return activation(p["node_weight"] @ np.concatenate([hl, hr]) + p["node_bias"])


def rntn_node(p, hl, hr):
    n, a = len(hl), np.concatenate([hl, hr])
    tensor = p["tensor_weight"].reshape(n, 2 * n, 2 * n)
    forms = np.array([a @ tensor[k] @ a for k in range(n)])
    return np.tanh(forms + p["node_weight"] @ a + p["node_bias"])


def top_down(p, h, c, depth, max_depth):
    """(total, leaves, log_prob, shape); shape is the grown tree, as nested pairs with None at leaves."""
    i, o, f, u = np.split(p["step_weight"] @ h + p["step_bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
    h = sigmoid(o) * np.tanh(c)
    if depth == max_depth:
        return h, 1, 0.0, None
    g = sigmoid(p["grow_weight"] @ h + p["grow_bias"])[0]
    if g <= 0.5:
        return h, 1, np.log(1 - g), None
    hl, hr = np.split(np.tanh(p["child_weight"] @ h + p["child_bias"]), 2)
    left, right = (top_down(p, child, c, depth + 1, max_depth) for child in (hl, hr))
    return left[0] + right[0], left[1] + right[1], left[2] + right[2] + np.log(g), (left[3], right[3])


def numeric_gradient(loss, array, step=1e-6):
    """Central differences of ``loss()``, which reads `array`, by every entry of `array`."""
    gradient = np.zeros_like(array)
    for place in np.ndindex(*array.shape):
        before = array[place]
        array[place] = before + step
        above = loss()
        array[place] = before - step
        below = loss()
        array[place] = before
        gradient[place] = (above - below) / (2 * step)
    return gradient
