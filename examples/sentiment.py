"""Sentiment of sentences with a binary Tree-LSTM (Tai, Socher and Manning, ACL 2015, arXiv:1503.00075).

    python examples/sentiment.py --out runs/sentiment                                   # a generated treebank
    python examples/sentiment.py --out runs/sst --data SST --vectors glove.6B.50d.txt   # train, dev, test.txt

Trains on the labels of all phrases, keeps the parameters that label the whole sentences of the dev set best,
exports them, imports them in a fresh process, and trains a bag of words with as many parameters the same way.
What order and structure say is the gap between the two models.
"""
import argparse
import csv
import io
import json
import logging
import math
import os
import platform
import random
import signal
import subprocess
import sys
import time

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import recursive_gluon as rg
from recursive_gluon._progress import progress
from recursive_gluon.data import ForestBatchify, Vocab, generate_treebank, load_vectors, read_ptb
from recursive_gluon.nn import TreeLSTM

log = logging.getLogger('sentiment')

# What an option is when it is not given: for the generated treebank, and for --data, where it is what the
# paper has for the Stanford Sentiment Treebank, but for the number of epochs and smaller word vectors.
DEFAULTS = {'epochs': (4, 30), 'batch_size': (25, 25), 'lr': (0.05, 0.05), 'hidden': (64, 150),
            'embed': (64, 50), 'dropout': (0.1, 0.5), 'wd': (1e-5, 1e-4), 'trees': (6000, None)}
# Options that may be others when a run is resumed.
MAY_CHANGE = {'out', 'resume', 'epochs', 'patience', 'quiet', 'threads', 'executor', 'baseline'}
BINARY = {0: 0, 1: 0, 2: -1, 3: 1, 4: 1}  # -1: no label
SPLITS = ('train', 'dev', 'test')


def parse(arguments=None):
    """The options, with what depends on others filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True, metavar='FOLDER', help='for everything that is written')
    parser.add_argument('--data', metavar='FOLDER', help='train.txt, dev.txt, test.txt; else generated')
    parser.add_argument('--vectors', metavar='FILE', help='word vectors as of GloVe, in lower case')
    parser.add_argument('--binary', action='store_true', help='leave out neutral sentences')
    parser.add_argument('--trees', type=int, metavar='N',
                        help='train on the first N; of generated ones, test on a sixth of that')
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--patience', type=int, default=8, help='epochs without a better one')
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--lr', type=float, help='of AdaGrad')
    parser.add_argument('--embed-lr-mult', type=float, help='of the embedding; 0.1 with --vectors, or 1')
    parser.add_argument('--hidden', type=int)
    parser.add_argument('--embed', type=int, help='columns of the embedding without --vectors')
    parser.add_argument('--dropout', type=float, help='of the words and before the classifier')
    parser.add_argument('--wd', type=float, help='L2 penalty on all but the embedding')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--executor', help='as for RecursiveBlock.hybridize')
    parser.add_argument('--threads', type=int, default=1, help='of one MXNet operator')
    parser.add_argument('--no-baseline', dest='baseline', action='store_false', help='no bag of words')
    parser.add_argument('--quiet', action='store_true', help='print the results only')
    parser.add_argument('--resume', action='store_true', help='go on after the last whole epoch')
    options = parser.parse_args(arguments)
    for name, values in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, values[options.data is not None])
    if options.embed_lr_mult is None:
        options.embed_lr_mult = 0.1 if options.vectors else 1.0
    if options.resume:
        check_resume(parser, options)
    return options


def check_resume(parser, options):
    """Refuse to go on with another run than the one in --out."""
    path = os.path.join(options.out, 'run.json')
    if not os.path.exists(path):
        return
    with open(path, encoding='utf-8') as file:
        before = json.load(file)['arguments']
    wrong = [f'{name}: {before.get(name)!r} before, {value!r} now' for name, value in vars(options).items()
             if name not in MAY_CHANGE and before.get(name) != value]
    if wrong:
        parser.error(f'--resume goes on with the run in {options.out}, but the options differ '
                     f'({"; ".join(wrong)}). Give the same ones, or another --out')


# -- data ----------------------------------------------------------------------------------------------------
def load_data(options):
    """Train, dev and test trees by name, and the vocabulary."""
    if options.data:
        data = {name: read_ptb(os.path.join(options.data, f'{name}.txt')) for name in SPLITS}
        data['train'] = data['train'][:options.trees]
    else:
        held_out = max(1, options.trees // 6)
        trees = generate_treebank(options.trees + 2 * held_out, options.seed)
        data = {'train': trees[:options.trees], 'dev': trees[options.trees:-held_out],
                'test': trees[-held_out:]}
    if options.binary:
        data = {name: binary(trees) for name, trees in data.items()}
    # A word that occurs in dev or test only is known if it has a vector, and else it is an unknown word.
    known = [tree for name in SPLITS for tree in data[name]] if options.vectors else data['train']
    vocab = Vocab.from_trees(known, lower=bool(options.vectors))
    log.info('%s; %d words', ', '.join(f'{len(data[name])} {name} trees' for name in SPLITS), len(vocab))
    return data, vocab


def binary(trees):
    """Sentences that are positive or negative; neutral phrases in them have no label."""
    return [tree.map(label=BINARY) for tree in trees if tree['label'][tree.root] != 2]


def loader(trees, vocab, batch_size, shuffle=False):
    return gluon.data.DataLoader(gluon.data.SimpleDataset(trees), batch_size, shuffle=shuffle,
                                 batchify_fn=ForestBatchify(vocab))


# -- models --------------------------------------------------------------------------------------------------
class BagOfWords(rg.RecursiveBlock):
    """Classifies the mean of a phrase's word vectors, by one hidden layer."""

    def __init__(self, vocab_size, embed_size, hidden, num_classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embed = gluon.nn.Embedding(vocab_size, embed_size, sparse_grad=True)
            self.hidden = gluon.nn.Dense(hidden, activation='tanh', in_units=embed_size)
            self.output = gluon.nn.Dense(num_classes, in_units=hidden)
            self.drop = gluon.nn.Dropout(dropout)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            total = self.drop(self.embed(node['word']))
            count = F.ones_like(F.slice_axis(total, axis=1, begin=0, end=1))
        else:
            left, right = self(node.left), self(node.right)
            total, count = left[0] + right[0], left[1] + right[1]
        hidden = self.hidden(F.broadcast_div(total, count))
        return total, count, self.output(self.drop(hidden))


def make_model(name, options, vocab, vectors):
    """A model, ready to be trained; its last output are the logits."""
    classes = 2 if options.binary else 5
    columns = options.embed if vectors is None else vectors.shape[1]
    if name == 'tree-lstm':
        net = TreeLSTM(len(vocab), columns, options.hidden, num_classes=classes, dropout=options.dropout,
                       prefix='treelstm_')
    else:
        tree_lstm = 3 * options.hidden * (columns + 1) + 5 * options.hidden * (2 * options.hidden + 1) \
            + classes * (options.hidden + 1)
        hidden = math.ceil((tree_lstm - classes) / (columns + 1 + classes))  # as many, or a few more
        net = BagOfWords(len(vocab), columns, hidden, classes, options.dropout, prefix='bagofwords_')
    mx.random.seed(options.seed)
    net.initialize(mx.init.Xavier())
    if vectors is None:
        net.embed.initialize(mx.init.Normal(0.1), force_reinit=True)
    else:
        net.embed.weight.set_data(mx.nd.array(vectors))
    net.embed.weight.lr_mult = options.embed_lr_mult
    net.hybridize(executor=options.executor)
    return net


def num_parameters(net):
    return sum(int(np.prod(p.shape)) for p in net.collect_params().values())


# -- training ------------------------------------------------------------------------------------------------
def train(name, options, data, vocab, vectors):
    """Train a model, or go on doing so; return it with its best parameters, and one record for each epoch."""
    folder = os.path.join(options.out, name)
    os.makedirs(folder, exist_ok=True)
    net = make_model(name, options, vocab, vectors)
    trainer = gluon.Trainer(net.collect_params(), 'adagrad', {'learning_rate': options.lr})
    records = restore(folder, net, trainer) if options.resume else []
    log.info('%s: %d parameters, after epoch %d', name, num_parameters(net), len(records))
    train_data = loader(data['train'], vocab, options.batch_size, shuffle=True)
    dev_data = loader(data['dev'], vocab, 10 * options.batch_size)
    with Interrupt() as interrupt:
        while len(records) < options.epochs and len(records) - best_epoch(records) < options.patience:
            epoch = len(records) + 1
            start = time.time()
            seed_all(options.seed, epoch)  # so that a resumed run draws what an uninterrupted one would
            loss = train_epoch(net, trainer, train_data, options, f'{name} epoch {epoch}', interrupt)
            accuracy = evaluate(net, dev_data, interrupt)
            seconds = round(time.time() - start, 2)
            records.append({'epoch': epoch, 'loss': loss, 'dev': accuracy, 'seconds': seconds})
            save(folder, net, trainer, records)
            log.info('%s epoch %d: loss %.4f, dev %.2f %%, %.0f s', name, epoch, loss, 100 * accuracy,
                     seconds)
    net.load_parameters(os.path.join(folder, 'best.params'))
    return net, records


def train_epoch(net, trainer, batches, options, what, interrupt):
    """Run one epoch; return the mean loss of a labelled phrase."""
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    decayed = [p for p in net.collect_params().values() if p is not net.embed.weight]
    total = phrases = 0.0
    for forest in progress(batches, what, 'batch', show=not options.quiet):
        interrupt.check()
        label = forest['label']
        labelled = (label >= 0).astype('float32')
        with autograd.record():
            logits = net(forest, nodes=True)[-1]
            loss = loss_function(logits, label, labelled.expand_dims(1)).sum()
        loss.backward()
        for p in decayed:  # MXNet's AdaGrad does not scale its own wd as it does gradients: too little
            p.grad()[:] += options.wd * forest.num_trees * p.data()
        trainer.step(forest.num_trees)
        total += loss.asscalar()
        phrases += labelled.sum().asscalar()
    return float(total / phrases)


def evaluate(net, batches, interrupt=None):
    """Accuracy on whole sentences."""
    metric = mx.metric.Accuracy()
    for forest in batches:
        if interrupt is not None:
            interrupt.check()
        label = forest['label'].take(mx.nd.array(forest.roots, dtype='int32'))
        metric.update([label], [net(forest)[-1]])
    return float(metric.get()[1])


def best_epoch(records):
    """The first of the epochs that are best on the dev set; 0 before the first."""
    return max(records, key=lambda record: record['dev'])['epoch'] if records else 0


def seed_all(seed, epoch=0):
    for function in (random.seed, np.random.seed, mx.random.seed):
        function(1000 * seed + epoch)


class Interrupt:
    """Puts off the first Ctrl-C to the next `check`, where nothing is half done; the second acts at once."""

    def __enter__(self):
        self._asked = False
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_):
        self._asked = True
        signal.signal(signal.SIGINT, self._before)

    def check(self):
        if self._asked:
            raise KeyboardInterrupt

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self._before)


# -- files ---------------------------------------------------------------------------------------------------
def write(path, save_to):
    """Write a file whole or not at all; `save_to` is called with a path."""
    save_to(path + '.part')
    os.replace(path + '.part', path)


def write_text(path, text):
    def save_to(part):
        with open(part, 'w', encoding='utf-8') as file:
            file.write(text)
    write(path, save_to)


def save(folder, net, trainer, records):
    """Save where training stands; ``state.json`` names the other files and comes last, so it always holds."""
    last = f'last-{records[-1]["epoch"]:04d}'
    write(os.path.join(folder, f'{last}.params'), net.save_parameters)
    write(os.path.join(folder, f'{last}.states'), trainer.save_states)
    if best_epoch(records) == len(records):
        write(os.path.join(folder, 'best.params'), net.save_parameters)
    columns = io.StringIO()
    table = csv.DictWriter(columns, list(records[0]), lineterminator='\n')
    table.writeheader()
    table.writerows(records)
    write_text(os.path.join(folder, 'log.csv'), columns.getvalue())
    write_text(os.path.join(folder, 'log.jsonl'), ''.join(json.dumps(record) + '\n' for record in records))
    write_text(os.path.join(folder, 'state.json'), json.dumps({'last': last, 'records': records}, indent=1))
    for name in os.listdir(folder):
        if name.startswith('last-') and not name.startswith(last):
            os.remove(os.path.join(folder, name))


def restore(folder, net, trainer):
    """Load where training stood; return the records up to there."""
    path = os.path.join(folder, 'state.json')
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as file:
        state = json.load(file)
    net.load_parameters(os.path.join(folder, f'{state["last"]}.params'))
    trainer.load_states(os.path.join(folder, f'{state["last"]}.states'))
    return state['records']


def describe_run(options):
    """What it takes to run this again."""
    git = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=os.path.dirname(os.path.abspath(__file__)),
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    versions = {'python': platform.python_version(), 'mxnet': mx.__version__, 'numpy': np.__version__,
                'recursive_gluon': rg.__version__}
    return {'arguments': vars(options), 'seed': options.seed, 'git': git.stdout.strip() or None,
            'versions': versions, 'machine': platform.platform()}


def plot(path, histories, results):
    """Loss and accuracy by epoch; the test accuracy is a point at the best epoch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning('no %s: matplotlib is not installed', path)
        return
    figure = Figure(figsize=(9, 3.5), tight_layout=True)
    left, right = figure.subplots(1, 2)
    for color, (name, records) in enumerate(histories.items()):
        epochs = [record['epoch'] for record in records]
        left.plot(epochs, [record['loss'] for record in records], f'C{color}.-', label=name)
        right.plot(epochs, [100 * record['dev'] for record in records], f'C{color}.-', label=f'{name}, dev')
        right.plot(results[name]['epoch'], 100 * results[name]['test'], f'C{color}D', label=f'{name}, test')
    left.set(xlabel='epoch', ylabel='training loss of a phrase')
    right.set(xlabel='epoch', ylabel='accuracy on sentences, %')
    left.legend()
    right.legend()
    write(path, lambda part: figure.savefig(part, format='png', dpi=120))


# -- export --------------------------------------------------------------------------------------------------
IMPORT = '''
import sys
import mxnet as mx
import recursive_gluon  # registers the operator that the file holds; the class of the model is not needed
prefix, inputs, outputs = sys.argv[1:]
names, arrays = zip(*sorted(mx.nd.load(inputs).items()))
net = mx.gluon.SymbolBlock.imports(prefix + '-symbol.json', list(names), prefix + '-0000.params')
mx.nd.save(outputs, net(*arrays)[-1])
'''


def export(net, trees, vocab, folder):
    """Export for trees without labels; return the largest difference of a logit in a fresh process."""
    os.makedirs(folder, exist_ok=True)
    bare = [rg.Tree.from_arrays(tree.child_offsets, tree.children, {'word': tree['word']}) for tree in trees]
    forest = rg.Forest(bare, vocab=vocab)
    here = net(forest)[-1].asnumpy()
    prefix = os.path.join(folder, 'sentiment')
    net.export(prefix)
    write_text(os.path.join(folder, 'vocab.json'), vocab.to_json())
    inputs, outputs = os.path.join(folder, 'check-inputs.nd'), os.path.join(folder, 'check-outputs.nd')
    mx.nd.save(inputs, {f'data{i}': array for i, array in enumerate(forest)})
    subprocess.run([sys.executable, '-W', 'ignore', '-c', IMPORT, prefix, inputs, outputs], check=True)
    difference = float(np.abs(mx.nd.load(outputs)[0].asnumpy() - here).max())
    if not difference < 1e-4:
        raise RuntimeError(f'the imported network gives other logits: they differ by {difference}')
    return difference


# -- all of it -----------------------------------------------------------------------------------------------
def run(options):
    """Train, evaluate, export and write; return the results of each model by name."""
    os.makedirs(options.out, exist_ok=True)
    write_text(os.path.join(options.out, 'run.json'), json.dumps(describe_run(options), indent=1))
    seed_all(options.seed)
    data, vocab = load_data(options)
    vectors = None
    if options.vectors:
        vectors, found = load_vectors(options.vectors, vocab, unknown='unk', seed=options.seed)
        log.info('%d of %d words have a vector', found, len(vocab))
    test_data = loader(data['test'], vocab, 10 * options.batch_size)
    results, histories = {}, {}
    for name in ('tree-lstm', 'bag-of-words')[:1 + options.baseline]:
        net, records = train(name, options, data, vocab, vectors)
        best = records[best_epoch(records) - 1]
        results[name] = {'parameters': num_parameters(net), 'epoch': best['epoch'], 'dev': best['dev'],
                         'test': evaluate(net, test_data),
                         'minutes': round(sum(record['seconds'] for record in records) / 60, 2)}
        histories[name] = records
        if name == 'tree-lstm':
            difference = export(net, data['test'][:50], vocab, os.path.join(options.out, 'export'))
            results[name]['import_difference'] = difference
            log.info('exported; logits in a fresh process differ by %.1g', difference)
    write_text(os.path.join(options.out, 'results.json'), json.dumps(results, indent=1))
    plot(os.path.join(options.out, 'training.png'), histories, results)
    return results


def report(results):
    """The results as a table, and the gap between the models."""
    lines = ['| model | parameters | best epoch | dev % | test % | minutes |',
             '|---|---:|---:|---:|---:|---:|']
    for name, r in results.items():
        lines.append(f'| {name} | {r["parameters"]:,} | {r["epoch"]} | {100 * r["dev"]:.2f} '
                     f'| {100 * r["test"]:.2f} | {r["minutes"]:.1f} |')
    if len(results) > 1:
        gap = results['tree-lstm']['test'] - results['bag-of-words']['test']
        lines.append(f'\ngap on the test set: {100 * gap:.1f} points')
    return '\n'.join(lines)


def set_threads(options):
    """MXNet reads the number of threads when it is loaded: start again with another one.

    With several, threads must sleep while they wait, or they starve each other beside any other busy process.
    """
    wanted = {'OMP_NUM_THREADS': str(options.threads)}
    if options.threads > 1:
        wanted['OMP_WAIT_POLICY'] = 'passive'
    if {name: os.environ.get(name) for name in wanted} != wanted:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def log_to(path, quiet):
    """Log to a file, and to the terminal unless it shall be quiet."""
    terminal, file = logging.StreamHandler(), logging.FileHandler(path, encoding='utf-8')
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    logging.basicConfig(format='%(asctime)s %(message)s', level=logging.INFO, handlers=[terminal, file])


def main():
    options = parse()
    set_threads(options)
    os.makedirs(options.out, exist_ok=True)
    log_to(os.path.join(options.out, 'log.txt'), options.quiet)
    try:
        print(report(run(options)))
    except KeyboardInterrupt:
        log.warning('interrupted; the last whole epoch is in %s; --resume goes on from there', options.out)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
