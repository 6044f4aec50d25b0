"""Accuracy on the Stanford Sentiment Treebank, over several seeds:

    python benchmarks/sst.py --data SST --vectors glove.6B.50d.txt --seeds 0 1 2 [--binary] [--resume]

Each seed is a run of examples/sentiment.py without its baseline, whose other options are taken too.
The test accuracy is that of the epoch that was best on the dev set.
"""
import argparse
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, 'examples'))
import sentiment  # noqa: E402


def parse(arguments=None):
    """The seeds, and the options of the example for each of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--data', required=True, metavar='FOLDER', help='train.txt, dev.txt, test.txt')
    parser.add_argument('--vectors', required=True, metavar='FILE', help='word vectors as of GloVe')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--binary', action='store_true', help='positive or negative instead of five classes')
    parser.add_argument('--out', metavar='FOLDER', help='by default runs/sst-5, or runs/sst-2 with --binary')
    known, others = parser.parse_known_args(arguments)
    classes = 2 if known.binary else 5
    out = known.out or os.path.join('runs', f'sst-{classes}')
    common = ['--data', known.data, '--vectors', known.vectors, '--no-baseline', *others]
    common += ['--binary'] if known.binary else []
    runs = [sentiment.parse(['--out', os.path.join(out, f'seed-{seed}'), '--seed', str(seed), *common])
            for seed in known.seeds]
    return out, classes, runs


def mean_and_spread(values):
    """The mean and the standard deviation, as text."""
    spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.2f}{spread}'


def table(classes, runs, results):
    lines = [f'SST-{classes}, accuracy on sentences, mean ± standard deviation', '',
             '| seed | best dev epoch | dev % | test % | minutes |', '|---|---:|---:|---:|---:|']
    for options, r in zip(runs, results):
        lines.append(f'| {options.seed} | {r["epoch"]} | {100 * r["dev"]:.2f} | {100 * r["test"]:.2f} '
                     f'| {r["minutes"]:.1f} |')
    dev, test = (mean_and_spread([100 * r[name] for r in results]) for name in ('dev', 'test'))
    epoch, minutes = (statistics.mean(r[name] for r in results) for name in ('epoch', 'minutes'))
    lines.append(f'| mean | {epoch:.1f} | {dev} | {test} | {minutes:.1f} |')
    return '\n'.join(lines)


def main():
    out, classes, runs = parse()
    sentiment.set_threads(runs[0])
    os.makedirs(out, exist_ok=True)
    sentiment.log_to(os.path.join(out, 'log.txt'), runs[0].quiet)
    results = []
    try:
        for options in runs:
            results.append(sentiment.run(options)['tree-lstm'])
    except KeyboardInterrupt:
        sentiment.log.warning('interrupted; --resume goes on after the last whole epoch')
    if results:
        print(table(classes, runs, results))
    return 0 if len(results) == len(runs) else 130


if __name__ == '__main__':
    sys.exit(main())
