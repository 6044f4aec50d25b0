"""Watches MXNet's library from below the interception while converted cases run; a process of its own.

Spies have to stand between the library and the interception, so they are set before the package is imported. They look
at the log of the thread whenever the library runs an operator, writes an array, or uses its tape: nothing of that may
happen past work that was put off, unless it is the launch of that work.
"""
import collections
import json
import sys
import warnings

import mxnet as mx

LIB = mx.base._LIB
SPIED = """MXImperativeInvokeEx MXInvokeCachedOpEx MXAutogradBackwardEx MXAutogradMarkVariables MXAutogradGetSymbol
MXAutogradSetIsRecording MXAutogradSetIsTraining MXCustomFunctionRecord MXRandomSeed MXRandomSeedContext
MXNDArraySyncCopyFromCPU MXNDArraySyncCopyFromNDArray MXNDArrayGetData MXNDArraySave MXNDArraySaveRawBytes
MXNDArrayToDLPack MXNDArrayWaitAll MXNetFuncCall MXKVStorePushPullEx MXKVStorePushEx MXKVStorePullEx MXKVStoreInitEx
MXKVStoreBroadcastEx MXExecutorForward MXExecutorBackwardEx""".split()
# Called for new arrays too, which what was put off cannot read.
OF_ONE = "MXNDArraySyncCopyFromCPU", "MXNDArrayGetData"
seen, past, ahead = collections.Counter(), [], []


def spy(name):
    function = getattr(LIB, name)

    def spied(*args):
        look(name, args)
        return function(*args)

    setattr(LIB, name, spied)


def look(name, args):
    log = thread.log
    if log is None:
        return
    where = "launch" if log.busy or ahead else "program" if log.depth else "outside"
    seen[f"{name} {where}"] += 1
    if where == "launch" or not log.work.ops:
        return
    read = {array.handle.value for array in log.work.externals}
    if name == "MXImperativeInvokeEx":
        fine = where == "outside" and not args[3]._obj.value  # it makes a new array, of ones that are not lazy
    elif name == "MXNetFuncCall":
        fine = interception._ARRAY not in list(args[2][:args[3].value])
    elif name.startswith("MXAutogradSetIs"):
        current = mx.autograd.is_recording() if name.endswith("Recording") else mx.autograd.is_training()
        fine = bool(args[0].value) == current
    else:
        fine = name in OF_ONE and args[0].value not in read
    if not fine:
        past.append(f"{name}, {where}, past {len(log.work.ops)} calls")


for each in SPIED:
    spy(each)

import observe  # noqa: E402 - after the spies
from cases import CASES  # noqa: E402

import recursive_gluon as rg  # noqa: E402
from recursive_gluon.bridge import skeleton  # noqa: E402
from recursive_gluon.bridge.conversion import Conversion  # noqa: E402
from recursive_gluon.bridge.convert import conversion_of  # noqa: E402
from recursive_gluon.bridge.log import thread  # noqa: E402
from recursive_gluon.capture import interception  # noqa: E402

launch_ahead = Conversion.launch_ahead


def launched_ahead(self, known, work):
    ahead.append(known)
    made = launch_ahead(self, known, work)
    ahead.pop()
    return made


Conversion.launch_ahead = launched_ahead


def audit(case):
    seen.clear()
    past.clear()
    converted = []

    def convert(program):
        converted.append(rg.hybridize(program))
        skeleton.enable(False)  # what is called from C++ the spies do not see; it is compared in test_skeleton.py
        return converted[-1]

    observe.observe(case, convert)
    reports = [conversion.report for conversion in {conversion_of(net) for net in converted}]
    return {"seen": dict(seen), "past": past[:],
            **{name: sum(getattr(report, name) for report in reports) for name in ("eager", "replayed", "graphs")}}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({number: audit(CASES[number]) for number in map(int, sys.argv[1:])}))
