"""A one-stage detector with two scales, YOLO-like: in training it returns what the loss needs, in inference it decodes
boxes and suppresses those that overlap; images change their size during training."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


def conv(channels, inputs, stride=1, kernel=3):
    block = nn.HybridSequential()
    with block.name_scope():
        block.add(nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, in_channels=inputs),
                  nn.BatchNorm(in_channels=channels), nn.LeakyReLU(0.1))
    return block


class Output(gluon.HybridBlock):
    """Raw predictions of one scale; centres, sizes and scores where nothing is trained."""

    def __init__(self, classes, anchors, stride, inputs, **kwargs):
        super().__init__(**kwargs)
        self._classes, self._count, self._stride = classes, len(anchors), stride
        with self.name_scope():
            self.predict = nn.Conv2D(self._count * (5 + classes), 1, in_channels=inputs)
            self.anchors = self.params.get_constant("anchors", np.reshape(anchors, (1, 1, -1, 2)).astype("float32"))

    def hybrid_forward(self, F, x, anchors):
        height, width = x.shape[2:]
        raw = self.predict(x).reshape((0, self._count, 5 + self._classes, -1)).transpose((0, 3, 1, 2))
        rows = F.arange(height).repeat(width).reshape((1, -1, 1, 1))
        columns = F.tile(F.arange(width), reps=height).reshape((1, -1, 1, 1))
        centres = (F.sigmoid(raw.slice_axis(axis=-1, begin=0, end=2)) + F.concat(columns, rows, dim=-1)) * self._stride
        sizes = F.exp(raw.slice_axis(axis=-1, begin=2, end=4).clip(-3, 3)) * anchors
        boxes = F.concat(centres - sizes / 2, centres + sizes / 2, dim=-1)
        objectness = raw.slice_axis(axis=-1, begin=4, end=5)
        classes = raw.slice_axis(axis=-1, begin=5, end=None)
        if autograd.is_training():
            return boxes.reshape((0, -1, 4)), raw.reshape((0, -1, 5 + self._classes)), anchors, centres
        scores = F.sigmoid(objectness) * F.sigmoid(classes)
        best, label = scores.max(axis=-1, keepdims=True), scores.argmax(axis=-1, keepdims=True)
        return F.concat(label, best, boxes, dim=-1).reshape((0, -1, 6))


class Detector(gluon.HybridBlock):
    def __init__(self, classes, channels, **kwargs):
        super().__init__(**kwargs)
        self.nms_threshold, self._classes = 0.45, classes
        with self.name_scope():
            self.stem = nn.HybridSequential()
            self.stem.add(conv(channels, 3, 2), conv(channels, channels, 2))
            self.deep = conv(2 * channels, channels, 2)
            self.across = conv(channels, 2 * channels, kernel=1)
            self.coarse = Output(classes, [(12, 12), (20, 10)], 8, 2 * channels)
            self.fine = Output(classes, [(6, 6), (4, 8)], 4, 2 * channels)

    def hybrid_forward(self, F, x, targets=None):
        early = self.stem(x)
        late = self.deep(early)
        up = F.UpSampling(self.across(late), scale=2, sample_type="nearest")
        outputs = [self.coarse(late), self.fine(F.concat(up, early, dim=1))]
        if autograd.is_training():
            boxes, raw = (F.concat(*[out[k] for out in outputs], dim=1) for k in (0, 1))
            if targets is None:
                return boxes, raw, [out[2] for out in outputs], [out[3].shape for out in outputs]
            objectness, wanted, labels, weight = targets
            raw_boxes, raw_object, raw_class = raw[:, :, :4], raw[:, :, 4:5], raw[:, :, 5:]
            on_object = (F.relu(raw_object) - raw_object * objectness + F.log(1 + F.exp(-raw_object.abs()))).mean()
            on_box = (F.smooth_l1(boxes / 8 - wanted / 8) * weight).sum() / 8
            on_class = (-F.pick(F.log_softmax(raw_class), labels, axis=2, keepdims=True) * weight).sum()
            return on_object, on_box, on_class, (raw_boxes ** 2).mean()
        found = F.concat(*outputs, dim=1)
        if 0 < self.nms_threshold < 1:
            found = F.contrib.box_nms(found, overlap_thresh=self.nms_threshold, valid_thresh=0.01, topk=40, id_index=0,
                                      score_index=1, coord_start=2)
        return found[:, :10, 0:1], found[:, :10, 1:2], found[:, :10, 2:]


def assign(boxes, truth, classes):
    """Targets by NumPy: each true box goes to the predicted one that it overlaps most."""
    predicted = boxes.asnumpy()
    count = predicted.shape[1]
    objectness, weight = np.zeros((len(truth), count, 1)), np.zeros((len(truth), count, 1))
    wanted, labels = np.zeros((len(truth), count, 4)), np.zeros((len(truth), count))
    for i, objects in enumerate(truth):
        for left, top, right, bottom, label in objects:
            lower = np.maximum(predicted[i, :, :2], [left, top])
            upper = np.minimum(predicted[i, :, 2:], [right, bottom])
            best = int(np.argmax(np.prod(np.clip(upper - lower, 0, None), axis=1)))
            objectness[i, best], weight[i, best] = 1, 1
            wanted[i, best], labels[i, best] = (left, top, right, bottom), label
    return [nd.array(one) for one in (objectness, wanted, labels, weight)]


def make(convert, small=False):
    channels, batch, sizes, classes = (3, 1, (16, 24), 3) if small else (16, 4, (64, 96, 128), 5)
    net = Detector(classes, channels)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.001, "momentum": 0.9})
    data = np.random.RandomState(11)

    def step(i):
        size = sizes[0] if i < 7 else sizes[i // 2 % len(sizes)]
        x = nd.array(data.uniform(-1, 1, (batch, 3, size, size)))
        if i % 5 == 4:
            net.nms_threshold = 0.45 if i < 8 else 0
            return net(x)
        truth = []
        for _ in range(batch):
            corner = data.uniform(0, size / 2, (1 + i % 3, 2))
            extent = data.uniform(4, size / 2, corner.shape)
            truth.append(np.concatenate([corner, corner + extent, data.randint(0, classes, (len(corner), 1))], 1))
        with autograd.record():
            with autograd.pause():
                with autograd.train_mode():
                    boxes, *_ = net(x)
            losses = net(x, assign(boxes, truth, classes))
            autograd.backward(list(losses))
        trainer.step(batch)
        return losses

    return step, lambda: [net]
