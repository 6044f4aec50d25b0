"""A two-stage detector: proposals from one net, samplers as plain Blocks with NumPy, heads on pooled regions."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class Proposals(gluon.Block):
    """Boxes around anchors, the best of them after suppression; how many is decided by their scores."""

    def __init__(self, channels, stride, **kwargs):
        super().__init__(**kwargs)
        self._stride = stride
        with self.name_scope():
            self.conv = nn.Conv2D(channels, 3, padding=1, in_channels=channels, activation="relu")
            self.score = nn.Conv2D(1, 1, in_channels=channels)
            self.shift = nn.Conv2D(4, 1, in_channels=channels)

    def anchors(self, height, width):
        rows, columns = np.mgrid[:height, :width] * self._stride + self._stride / 2
        half = 1.5 * self._stride
        return nd.array(np.stack([columns - half, rows - half, columns + half, rows + half], axis=-1).reshape(-1, 4))

    def forward(self, x):
        h = self.conv(x)
        scores = self.score(h).reshape((-1, 1))
        shifts = self.shift(h).transpose((0, 2, 3, 1)).reshape((-1, 4))
        anchors = self.anchors(*x.shape[2:])
        with autograd.pause():
            boxes = anchors + shifts.clip(-2, 2) * self._stride
            kept = nd.contrib.box_nms(nd.concat(nd.sigmoid(scores), boxes, dim=1), overlap_thresh=0.7, topk=12,
                                      coord_start=1, score_index=0, id_index=-1)
            count = max(2, min(8, int((kept[:, 0] > 0.4).sum().asscalar())))
            boxes = kept[:count, 1:].clip(0, x.shape[3] * self._stride)
        return scores, shifts, anchors, boxes


def overlaps(a, b):
    lower = np.maximum(a[:, None, :2], b[None, :, :2])
    upper = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(upper - lower, 0, None), axis=2)
    area_a, area_b = (np.prod(np.clip(one[:, 2:] - one[:, :2], 0, None), axis=1) for one in (a, b))
    return shared / (area_a[:, None] + area_b[None] - shared + 1e-9)


class Sampler(gluon.Block):
    """Matches boxes with the truth and draws as many others as match, plus one."""

    def __init__(self, least, **kwargs):
        super().__init__(**kwargs)
        self._least, self.drawn = least, 0

    def forward(self, boxes, truth):
        with autograd.pause():
            shared = overlaps(boxes.asnumpy(), truth.asnumpy()[:, :4])
            best, owner = shared.max(axis=1), shared.argmax(axis=1)
            good = np.flatnonzero(best >= self._least)
            if len(good) == 0:
                good = np.array([int(best.argmax())])
            others = np.setdiff1d(np.arange(len(best)), good)
            bad = np.random.choice(others, min(len(others), len(good) + 1), replace=False)
            self.drawn += len(bad)
            chosen = np.concatenate([good, bad]).astype("int32")
            labels = np.concatenate([truth.asnumpy()[owner[good], 4] + 1, np.zeros(len(bad))])
            return nd.array(chosen, dtype="int32"), nd.array(labels), nd.array(truth.asnumpy()[owner[good], :4])


class TwoStage(gluon.Block):
    def __init__(self, classes, channels, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(nn.Conv2D(channels, 3, 2, 1, in_channels=3), nn.BatchNorm(in_channels=channels),
                              nn.Activation("relu"), nn.Conv2D(channels, 3, 2, 1, in_channels=channels),
                              nn.Activation("relu"))
            self.proposals = Proposals(channels, 4)
            self.of_anchors, self.of_boxes = Sampler(0.3), Sampler(0.4)
            self.top = nn.Dense(4 * channels, activation="relu", in_units=9 * channels)
            self.name_of, self.move = nn.Dense(classes + 1, in_units=4 * channels), nn.Dense(4, in_units=4 * channels)

    def heads(self, features, boxes):
        regions = nd.concat(nd.zeros((boxes.shape[0], 1)), boxes, dim=1)
        pooled = nd.contrib.ROIAlign(features, regions, (3, 3), 0.25, sample_ratio=2)
        h = self.top(pooled)
        return self.name_of(h), self.move(h)

    def forward(self, x, truth=None):
        features = self.features(x)
        scores, shifts, anchors, boxes = self.proposals(features)
        if not autograd.is_training():
            names, moves = self.heads(features, boxes)
            found = nd.concat(nd.softmax(names)[:, 1:].max(axis=1, keepdims=True), boxes + moves, dim=1)
            found = nd.contrib.box_nms(found, overlap_thresh=0.5, coord_start=1, score_index=0, id_index=-1)
            return names.argmax(axis=1), found
        boxes = nd.concat(boxes, truth[:, :4], dim=0)
        rows, labels, wanted = self.of_anchors(anchors, truth)
        chosen, names_wanted, boxes_wanted = self.of_boxes(boxes, truth)
        names, moves = self.heads(features, boxes[chosen])
        count = boxes_wanted.shape[0]
        return (scores[rows], labels > 0, (anchors[rows] + shifts[rows] * 4)[:wanted.shape[0]], wanted,
                names, names_wanted, (boxes[chosen] + moves)[:count], boxes_wanted)


def make(convert, small=False):
    channels, size, classes = (4, 24, 2) if small else (16, 96, 5)
    net = TwoStage(classes, channels)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.002, "momentum": 0.9})
    on_object = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    on_name, on_box = gluon.loss.SoftmaxCrossEntropyLoss(), gluon.loss.HuberLoss()
    data = np.random.RandomState(12)

    def step(i):
        extent = size if i < 8 else size + 8 * (i % 2)
        x = nd.array(data.uniform(-1, 1, (1, 3, extent, extent)))
        if i % 4 == 3:
            return net(x)
        corner = data.uniform(0, extent / 2, (1 if i < 6 else 1 + i % 3, 2))
        truth = nd.array(np.concatenate([corner, corner + data.uniform(8, extent / 2, corner.shape),
                                         data.randint(0, classes, (len(corner), 1))], axis=1))
        with autograd.record():
            scores, is_object, anchors, wanted, names, labels, boxes, boxes_wanted = net(x, truth)
            value = on_object(scores, is_object).mean() + on_box(anchors / 8, wanted / 8).mean()
            value = value + on_name(names, labels).mean() + on_box(boxes / 8, boxes_wanted / 8).mean()
        value.backward()
        trainer.step(1)
        return value, names, net.of_anchors.drawn, net.of_boxes.drawn

    return step, lambda: [net]
