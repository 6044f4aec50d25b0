"""Actor-critic on a pole that is balanced on a cart: the environment runs between the net's calls, inside record()."""
import math

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class CartPole:
    """The dynamics of the classic task, in NumPy; an episode ends when the pole falls or the cart leaves."""

    def __init__(self, seed):
        self._random = np.random.RandomState(seed)

    def reset(self):
        self._state = self._random.uniform(-0.05, 0.05, 4)
        return self._state

    def step(self, action):
        x, speed, angle, turn = self._state
        force = 10.0 if action else -10.0
        sine, cosine = math.sin(angle), math.cos(angle)
        push = (force + 0.05 * turn ** 2 * sine) / 1.1
        turning = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine ** 2 / 1.1))
        moving = push - 0.05 * turning * cosine / 1.1
        self._state = np.array([x + 0.02 * speed, speed + 0.02 * moving, angle + 0.02 * turn, turn + 0.02 * turning])
        return self._state, 1.0, abs(self._state[0]) > 2.4 or abs(self._state[2]) > 0.21


class Policy(gluon.Block):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(units, in_units=4, activation="relu")
            self.action = nn.Dense(2, in_units=units)
            self.value = nn.Dense(1, in_units=units)

    def forward(self, x):
        h = self.dense(x)
        return nd.softmax(self.action(h)), self.value(h)


def make(convert, small=False):
    env = CartPole(5)
    net = Policy(8 if small else 128)
    net.initialize(mx.init.Uniform(0.02))
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.03})
    loss = gluon.loss.L1Loss()
    longest = 15 if small else 40

    def step(i):
        state, rewards, values, heads, actions = env.reset(), [], [], [], []
        with autograd.record():
            for _ in range(longest if i < 8 else longest + i):
                probabilities, value = net(nd.array(np.expand_dims(state, 0)))
                action, log = nd.sample_multinomial(probabilities, get_prob=True)
                state, reward, done = env.step(action.asnumpy()[0])
                actions.append(int(action.asscalar()))
                rewards.append(reward)
                values.append(value)
                heads.append(log)
                if done:
                    break
            running = 0.0
            for at in reversed(range(len(rewards))):
                rewards[at] = running = rewards[at] + 0.99 * running
            rewards = np.array(rewards)
            rewards = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            final = []
            for reward, value, log in zip(rewards, values, heads):
                advantage = reward - value[0, 0].asscalar()
                final.append(loss(value, nd.array([reward])))
                final.append(-log * advantage)
        autograd.backward(final)
        trainer.step(1)
        return actions, final[-1], values[-1]

    return step, lambda: [net]
