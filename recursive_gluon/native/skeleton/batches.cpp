#include "batches.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace skeleton {
namespace {

// An operator call of a work: (call, number of values, reads...).
struct Op {
  PyObject* call;
  long values;
  PyObject* tuple;
  Py_ssize_t reads() const { return PyTuple_GET_SIZE(tuple) - 2; }
  PyObject* read_object(Py_ssize_t i) const { return PyTuple_GET_ITEM(tuple, i + 2); }
  long read(Py_ssize_t i) const { return PyLong_AsLong(read_object(i)); }
};

bool wrong(const char* what) {
  PyErr_SetString(PyExc_TypeError, what);
  return false;
}

bool take_ops(PyObject* list, std::vector<Op>& ops) {
  if (!PyList_Check(list)) return wrong("calls are a list");
  ops.reserve(PyList_GET_SIZE(list));
  long values = 0;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    PyObject* tuple = PyList_GET_ITEM(list, i);
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) < 2) return wrong("a call is a tuple");
    Op op{PyTuple_GET_ITEM(tuple, 0), PyLong_AsLong(PyTuple_GET_ITEM(tuple, 1)), tuple};
    for (Py_ssize_t r = 0; r < op.reads(); ++r)
      if (op.read(r) >= values) return PyErr_Occurred() ? false : wrong("a call reads what comes later");
    values += op.values;
    ops.push_back(op);
  }
  return !PyErr_Occurred();
}

struct HashOfKey {
  size_t operator()(const std::vector<intptr_t>& key) const {
    uint64_t hash = key.size();
    for (intptr_t word : key) hash = (hash ^ static_cast<uint64_t>(word)) * 0x9E3779B97F4A7C15ull, hash ^= hash >> 29;
    return hash;
  }
};

Ref tuple_of(const std::vector<PyObject*>& borrowed) {
  Ref made(PyTuple_New(static_cast<Py_ssize_t>(borrowed.size())));
  if (made)
    for (size_t i = 0; i < borrowed.size(); ++i) {
      Py_INCREF(borrowed[i]);
      PyTuple_SET_ITEM(made.get(), static_cast<Py_ssize_t>(i), borrowed[i]);
    }
  return made;
}

PyObject* signature(const Op& op, const std::vector<PyObject*>& known, const std::vector<PyObject*>& rows,
                    PyObject* avals, long first) {
  std::vector<PyObject*> results;
  for (long v = first; v < first + op.values; ++v) results.push_back(PyList_GET_ITEM(avals, v));
  Ref a = tuple_of(rows), b = tuple_of(known), c = tuple_of(results);
  return a && b && c ? PyTuple_Pack(4, op.call, a.get(), b.get(), c.get()) : nullptr;
}

Ref list_of(const std::vector<long>& numbers) {
  Ref made(PyList_New(static_cast<Py_ssize_t>(numbers.size())));
  if (made)
    for (size_t i = 0; i < numbers.size(); ++i)
      PyList_SET_ITEM(made.get(), static_cast<Py_ssize_t>(i), PyLong_FromLong(numbers[i]));
  return made;
}

}  // namespace

PyObject* kinds(PyObject*, PyObject* const* args, Py_ssize_t count) {
  std::vector<Op> ops;
  if (count != 2 || Py_TYPE(args[0]) != g.work_kind) return wrong("kinds(work, shared)"), nullptr;
  PyObject *avals = g.avals.of(args[0]), *outside = g.external_avals.of(args[0]), *shared = args[1];
  if (!take_ops(g.ops.of(args[0]), ops)) return nullptr;
  std::vector<char> is_shared(PyList_GET_SIZE(outside));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(outside); ++i) {
    Ref number(PyLong_FromSsize_t(i));
    is_shared[i] = static_cast<char>(PySet_Contains(shared, number.get()) == 1);
  }
  std::unordered_map<std::vector<intptr_t>, long, HashOfKey> numbers;
  std::vector<long> found;
  found.reserve(ops.size());
  Ref signatures(PyList_New(0));
  std::vector<intptr_t> key;
  std::vector<PyObject*> known, rows;
  long first = 0;
  for (const Op& op : ops) {
    key.assign(1, reinterpret_cast<intptr_t>(op.call));
    known.clear();
    rows.clear();
    for (Py_ssize_t r = 0; r < op.reads(); ++r) {
      long read = op.read(r);
      if (read < 0 && ~read >= PyList_GET_SIZE(outside)) return wrong("an array that there is not"), nullptr;
      PyObject* aval = read >= 0 ? PyList_GET_ITEM(avals, read) : PyList_GET_ITEM(outside, ~read);
      bool row = read >= 0 || !is_shared[~read];
      known.push_back(aval);
      rows.push_back(row ? Py_True : Py_False);
      key.push_back(row ? reinterpret_cast<intptr_t>(aval) : read);  // pointers are positive, arrays' numbers are not
    }
    auto at = numbers.emplace(key, static_cast<long>(numbers.size()));
    if (at.second) {
      Ref made(signature(op, known, rows, avals, first));
      if (!made || PyList_Append(signatures.get(), made.get()) != 0) return nullptr;
    }
    found.push_back(at.first->second);
    first += op.values;
  }
  Ref list = list_of(found);
  return list ? PyTuple_Pack(2, list.get(), signatures.get()) : nullptr;
}

PyObject* agenda(PyObject*, PyObject* const* args, Py_ssize_t count) {
  std::vector<Op> ops;
  if (count != 3 || !PyList_Check(args[1])) return wrong("agenda(ops, kinds, count)"), nullptr;
  if (!take_ops(args[0], ops)) return nullptr;
  if (PyList_GET_SIZE(args[1]) != static_cast<Py_ssize_t>(ops.size())) return wrong("a kind for each call"), nullptr;
  long num_kinds = PyLong_AsLong(args[2]);
  size_t n = ops.size();
  std::vector<long> kind(n), maker, depth(n), waits(n), left(num_kinds);
  std::vector<double> deep(num_kinds);
  std::vector<std::vector<long>> readers(n), ready(num_kinds);
  std::vector<long> open;  // kinds that have calls that are ready
  auto is_ready = [&](long call) {
    if (ready[kind[call]].empty()) open.push_back(kind[call]);
    ready[kind[call]].push_back(call);
  };
  for (size_t i = 0; i < n; ++i) {
    kind[i] = PyLong_AsLong(PyList_GET_ITEM(args[1], static_cast<Py_ssize_t>(i)));
    if (kind[i] < 0 || kind[i] >= num_kinds) return wrong("a kind that there is not"), nullptr;
    for (Py_ssize_t r = 0; r < ops[i].reads(); ++r) {
      long read = ops[i].read(r);
      if (read < 0) continue;
      readers[maker[read]].push_back(static_cast<long>(i));
      depth[i] = std::max(depth[i], depth[maker[read]]);
      ++waits[i];
    }
    ++depth[i];
    maker.insert(maker.end(), ops[i].values, static_cast<long>(i));
    deep[kind[i]] += static_cast<double>(depth[i]);
    ++left[kind[i]];
    if (waits[i] == 0) is_ready(static_cast<long>(i));
  }
  Ref made(PyList_New(0));
  while (made && !open.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < open.size(); ++i) {
      double a = deep[open[i]] / static_cast<double>(left[open[i]]);
      double b = deep[open[best]] / static_cast<double>(left[open[best]]);
      if (a < b || (a == b && open[i] < open[best])) best = i;
    }
    long now = open[best];
    open[best] = open.back();
    open.pop_back();
    std::vector<long> calls;
    calls.swap(ready[now]);
    left[now] -= static_cast<long>(calls.size());
    Ref number(PyLong_FromLong(now)), list = list_of(calls);
    Ref pair(number && list ? PyTuple_Pack(2, number.get(), list.get()) : nullptr);
    if (!pair || PyList_Append(made.get(), pair.get()) != 0) return nullptr;
    for (long call : calls) {
      deep[now] -= static_cast<double>(depth[call]);
      for (long reader : readers[call])
        if (--waits[reader] == 0) is_ready(reader);
    }
  }
  return made.release();
}

PyObject* spreads(PyObject*, PyObject* const* args, Py_ssize_t count) {
  std::vector<Op> ops;
  if (count != 4 || !PyList_Check(args[1]) || !PyList_Check(args[2]))
    return wrong("spreads(ops, groups, bits, needed)"), nullptr;
  if (!take_ops(args[0], ops)) return nullptr;
  std::vector<long> bits, starts;
  long most = 0, values = 0;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[2]); ++i) {
    bits.push_back(PyLong_AsLong(PyList_GET_ITEM(args[2], i)));
    most = std::max(most, bits.back() + 1);
  }
  for (const Op& op : ops) {
    starts.push_back(values);
    values += op.values;
  }
  size_t words = static_cast<size_t>(most + 63) / 64;
  std::vector<uint64_t> alone(words * values), stacked(words * values), reached(words);
  auto reach = [&](const std::vector<uint64_t>& masks, const Op& op) {
    for (Py_ssize_t r = 0; r < op.reads(); ++r) {
      long read = op.read(r);
      if (read >= 0)
        for (size_t w = 0; w < words; ++w) reached[w] |= masks[read * words + w];
      else if (~read < static_cast<long>(bits.size()) && bits[~read] >= 0)
        reached[bits[~read] / 64] |= uint64_t(1) << (bits[~read] % 64);
    }
  };
  auto put = [&](std::vector<uint64_t>& masks, size_t call) {
    for (long v = starts[call]; v < starts[call] + ops[call].values; ++v)
      for (size_t w = 0; w < words; ++w) masks[v * words + w] = reached[w];
  };
  for (size_t i = 0; i < ops.size(); ++i) {
    reached.assign(words, 0);
    reach(alone, ops[i]);
    put(alone, i);
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[1]); ++i) {
    PyObject* group = PyList_GET_ITEM(args[1], i);  // (calls, batch, ...)
    if (!PyTuple_Check(group) || PyTuple_GET_SIZE(group) < 2) return wrong("a group is a tuple"), nullptr;
    bool once = PyTuple_GET_ITEM(group, 1) == Py_None;
    Ref calls(PySequence_Fast(PyTuple_GET_ITEM(group, 0), "calls of a group"));
    if (!calls) return nullptr;
    Py_ssize_t size = PySequence_Fast_GET_SIZE(calls.get());
    std::vector<size_t> numbers;
    for (Py_ssize_t c = 0; c < size; ++c) {
      long call = PyLong_AsLong(PySequence_Fast_GET_ITEM(calls.get(), c));
      if (call < 0 || call >= static_cast<long>(ops.size())) return wrong("a call that there is not"), nullptr;
      numbers.push_back(static_cast<size_t>(call));
    }
    reached.assign(words, 0);
    for (size_t call : numbers) {
      if (once) reached.assign(words, 0);
      reach(stacked, ops[call]);
      if (once) put(stacked, call);
    }
    if (!once)
      for (size_t call : numbers) put(stacked, call);
  }
  Ref walk(PyObject_GetIter(args[3]));
  if (!walk) return nullptr;
  while (Ref number{PyIter_Next(walk.get())}) {
    long value = PyLong_AsLong(number.get());
    if (value < 0 || value >= values) return wrong("a value that there is not"), nullptr;
    for (size_t w = 0; w < words; ++w)
      if (alone[value * words + w] != stacked[value * words + w]) Py_RETURN_TRUE;
  }
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_FALSE;
}

}  // namespace skeleton
