"""ResNet-18 for small images: a control, which hybridize() converts as it is."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon.model_zoo import vision


def make(convert, small=False):
    batch, size = (2, 8) if small else (4, 32)
    channels = [4, 4, 8, 12, 16] if small else [64, 64, 128, 256, 512]
    net = vision.ResNetV1(vision.BasicBlockV1, [2] * 4, channels, classes=10, thumbnail=True)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
    loss, data = gluon.loss.SoftmaxCrossEntropyLoss(), np.random.RandomState(7)

    def step(i):
        x = nd.array(data.uniform(-1, 1, (batch if i < 8 else 1 + i % 3, 3, size, size)))
        if i % 4 == 3:
            return net(x)
        with autograd.record():
            out = net(x)
            value = loss(out, nd.arange(x.shape[0]))
        value.backward()
        trainer.step(x.shape[0])
        return out, value

    return step, lambda: [net]
