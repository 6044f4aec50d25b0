"""Nets of GluonCV and GluonNLP, where they are installed: they run and repeat themselves unconverted."""
import mxnet as mx
import numpy as np
import pytest
from cases import Case
from cases.common import fit, normal, state, trainer_of
from mxnet import autograd, gluon, nd
from observe import compare, identity, observe


def images(size=32, batch=1):
    return nd.array(np.random.uniform(-1, 1, (batch, 3, size, size)))


def boxes(size=32):
    return nd.array([[[4, 4, size / 2, size / 2]]]), nd.array([[[1]]])


def dropblock(convert):
    """A mode branch and an attribute that is scheduled."""
    gluoncv = pytest.importorskip("gluoncv")
    net = gluon.nn.HybridSequential()
    with net.name_scope():
        net.add(gluon.nn.Conv2D(4, 3, padding=1, in_channels=3),
                gluoncv.nn.dropblock.DropBlock(0.1, 3, 4, 8, 8), gluon.nn.GlobalAvgPool2D(),
                gluon.nn.Dense(3, in_units=4))
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = trainer_of(net)
    for step in range(12):
        net[1].drop_prob = 0.1 if step < 6 else 0.03 * step
        yield fit(net, trainer, images(8, 2), normal(2, 3)), state(net)
        if step % 4 == 3:
            yield net(images(8))


def yolo(convert):
    """Other outputs in training than in inference."""
    gluoncv = pytest.importorskip("gluoncv")
    net = gluoncv.model_zoo.get_model("yolo3_mobilenet1.0_custom", classes=["a", "b"], pretrained_base=False)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = trainer_of(net, learning_rate=1e-4)
    targets = gluoncv.model_zoo.yolo.yolo_target.YOLOV3PrefetchTargetGenerator(2)
    for step in range(12):
        size = 64 if step < 6 else 64 + 32 * (step % 2)
        x = images(size)
        if step % 3 == 2:
            yield net(x)
            continue
        truth, labels = boxes(size)
        with autograd.train_mode():
            _, anchors, offsets, maps, *_ = net(x)
        more = targets(x, maps, anchors, offsets, truth, labels)
        with autograd.record():
            losses = net(x, truth, *more)
            autograd.backward(list(losses))
        trainer.step(1)
        yield losses, [p.grad().norm() for p in net.collect_params().values() if p.grad_req != "null"]


def faster_rcnn(convert):
    """Samplers as plain Blocks."""
    gluoncv = pytest.importorskip("gluoncv")
    net = gluoncv.model_zoo.get_model("faster_rcnn_resnet50_v1b_custom", classes=["a", "b"], transfer=None,
                                      pretrained_base=False, rpn_train_pre_nms=144, rpn_train_post_nms=140,
                                      rpn_test_pre_nms=100, rpn_test_post_nms=10, short=64, max_size=96)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    for step in range(12):
        x = images(64 if step < 8 else 96)
        if step % 3 == 2:
            yield net(x)
            continue
        with autograd.record():
            out = net(x, *boxes(64))
            value = (out[0] ** 2).mean()
        value.backward()
        yield value, out[0]


def bert(convert):
    """A control."""
    gluonnlp = pytest.importorskip("gluonnlp")
    encoder = gluonnlp.model.BERTEncoder(units=8, hidden_size=16, max_length=10, num_layers=1, num_heads=2, dropout=0.1)
    body = gluonnlp.model.BERTModel(encoder, vocab_size=20, token_type_vocab_size=2, units=8, embed_size=8,
                                    use_decoder=False, use_classifier=False)
    net = gluonnlp.model.BERTClassifier(body, num_classes=2)
    net.initialize(mx.init.Normal(0.1))
    net = convert(net)
    trainer = trainer_of(net, "adam", learning_rate=0.001)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(12):
        length = 5 if step < 8 else 3 + step % 5
        tokens = nd.array(np.random.randint(0, 20, (2, length)))
        more = nd.zeros((2, length)), nd.array([length, 2])
        yield fit(net, trainer, tokens, nd.array([0, 1]), *more, loss=loss), state(net)
        yield net(tokens, *more)


def language_model(convert):
    """A generation loop with a cache."""
    gluonnlp = pytest.importorskip("gluonnlp")
    net = gluonnlp.model.train.StandardRNN("lstm", 20, 8, 8, 1, dropout=0.1)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    for step in range(12):
        states, words = net.begin_state(batch_size=1), [step]
        for _ in range(4 if step < 8 else 2 + step % 4):
            out, states = net(nd.array([[words[-1]]]), states)[:2]
            words.append(int(out.reshape((-1,)).argmax(axis=0).asscalar()))
        yield words, states


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", [dropblock, yolo, faster_rcnn, bert, language_model], ids=lambda p: p.__name__)
def test_unconverted_twice_is_equal(program):
    pytest.importorskip("gluonnlp" if program in (bert, language_model) else "gluoncv")
    case = Case(0, program.__name__, program)
    first = observe(case, identity)
    assert len(first) >= 12 and "raised" not in first[-1], first[-1]
    assert compare(first, observe(case, identity)) == ("right", "")
