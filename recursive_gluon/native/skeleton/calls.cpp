#include "calls.h"

#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace skeleton {
namespace {

// An attribute is compared as Python's key of a Call does: by type and value, and -0.0 is not 0.0. Only values of
// Python's own types that cannot change are known here.
constexpr size_t kBound = 1 << 16;

struct Known {
  Ref handle, call;
  std::vector<Ref> keys, values;
  bool numpy;
};
auto& g_known = *new std::unordered_multimap<uint64_t, Known>;  // never destroyed, as `g`

void mix(uint64_t& hash, uint64_t more) { hash = (hash ^ more) * 0x9E3779B97F4A7C15ull + (hash >> 29); }

uint64_t bits(PyObject* number) {
  double value = PyFloat_AS_DOUBLE(number);
  uint64_t made;
  std::memcpy(&made, &value, sizeof made);
  return made;
}

bool hash_integer(uint64_t& hash, PyObject* value) {
  int overflow = 0;
  long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  mix(hash, static_cast<uint64_t>(number));
  return overflow == 0;
}

// Of a Context, which is a pair of integers and slow to compare in Python; -1 where it is something else.
long long device(PyObject* context) {
  static PyObject *kind = PyUnicode_InternFromString("device_typeid"), *id = PyUnicode_InternFromString("device_id");
  Ref first(PyObject_GetAttr(context, kind)), second(PyObject_GetAttr(context, id));
  if (!first || !second || !PyLong_CheckExact(first.get()) || !PyLong_CheckExact(second.get())) {
    PyErr_Clear();
    return -1;
  }
  long long high = PyLong_AsLongLong(first.get()), low = PyLong_AsLongLong(second.get());
  if (high < 0 || low < 0 || high >= 1 << 16 || low >= 1 << 16) {
    PyErr_Clear();
    return -1;
  }
  return high << 16 | low;
}

bool is_context(PyObject* value) { return Py_TYPE(value) == g.context_kind; }

bool hash_item(uint64_t& hash, PyObject* item) {
  if (item == Py_None) return mix(hash, 0), true;
  return PyLong_CheckExact(item) && hash_integer(hash, item);
}

bool hash_value(uint64_t& hash, PyObject* value) {
  mix(hash, reinterpret_cast<uintptr_t>(Py_TYPE(value)));
  if (PyLong_CheckExact(value)) return hash_integer(hash, value);
  if (PyFloat_CheckExact(value)) return mix(hash, bits(value)), true;
  if (PyUnicode_CheckExact(value)) return mix(hash, static_cast<uint64_t>(PyObject_Hash(value))), true;
  if (PyBool_Check(value) || value == Py_None || Py_TYPE(value) == &PyType_Type)
    return mix(hash, reinterpret_cast<uintptr_t>(value)), true;
  if (is_context(value)) return mix(hash, static_cast<uint64_t>(device(value))), device(value) >= 0;
  if (!PyTuple_CheckExact(value)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i)
    if (!hash_item(hash, PyTuple_GET_ITEM(value, i))) return false;
  return true;
}

bool equal_text(PyObject* a, PyObject* b) { return a == b || PyUnicode_Compare(a, b) == 0; }

bool equal_integers(PyObject* a, PyObject* b) {
  return a == b || (a != Py_None && b != Py_None && PyLong_AsLongLong(a) == PyLong_AsLongLong(b));
}

// Of values that could be hashed.
bool equal_values(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyLong_CheckExact(a)) return equal_integers(a, b);
  if (PyFloat_CheckExact(a)) return bits(a) == bits(b);
  if (PyUnicode_CheckExact(a)) return equal_text(a, b);
  if (is_context(a)) return device(a) == device(b);
  if (!PyTuple_CheckExact(a) || PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(a); ++i)
    if (!equal_integers(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
  return true;
}

bool same(const Known& known, const Invocation& asked) {
  if (known.numpy != asked.numpy || known.keys.size() != static_cast<size_t>(asked.num_attributes) ||
      !equal_integers(known.handle.get(), asked.handle))
    return false;
  for (Py_ssize_t i = 0; i < asked.num_attributes; ++i)
    if (!equal_text(known.keys[i].get(), asked.keys[i]) || !equal_values(known.values[i].get(), asked.values[i]))
      return false;
  return true;
}

PyObject* list_of(PyObject* const* items, Py_ssize_t count) {
  PyObject* made = PyList_New(count);
  for (Py_ssize_t i = 0; made != nullptr && i < count; ++i) {
    Py_INCREF(items[i]);
    PyList_SET_ITEM(made, i, items[i]);
  }
  return made;
}

PyObject* remember(uint64_t hash, const Invocation& asked) {
  Ref keys(list_of(asked.keys, asked.num_attributes)), values(list_of(asked.values, asked.num_attributes));
  if (!keys || !values) return nullptr;
  PyObject* args[] = {asked.handle, keys.get(), values.get(), asked.numpy ? Py_True : Py_False,
                      asked.as_list ? Py_True : Py_False};
  Ref made(call(g.find_call.get(), args, 5));
  if (!made) return nullptr;
  if (g_known.size() >= kBound) forget_calls();
  Known known{Ref::to(asked.handle), std::move(made), {}, {}, asked.numpy};
  for (Py_ssize_t i = 0; i < asked.num_attributes; ++i) {
    known.keys.push_back(Ref::to(asked.keys[i]));
    known.values.push_back(Ref::to(asked.values[i]));
  }
  return g_known.emplace(hash, std::move(known))->second.call.get();
}

}  // namespace

PyObject* find_call(const Invocation& asked) {
  uint64_t hash = asked.numpy;
  if (!PyLong_CheckExact(asked.handle) || !hash_integer(hash, asked.handle)) return nullptr;
  for (Py_ssize_t i = 0; i < asked.num_attributes; ++i) {
    if (!PyUnicode_CheckExact(asked.keys[i])) return nullptr;
    mix(hash, static_cast<uint64_t>(PyObject_Hash(asked.keys[i])));
    if (!hash_value(hash, asked.values[i])) return nullptr;
  }
  auto [first, last] = g_known.equal_range(hash);
  for (auto it = first; it != last; ++it)
    if (same(it->second, asked)) return it->second.call.get();
  return remember(hash, asked);
}

void forget_calls() {
  std::unordered_multimap<uint64_t, Known> dying;
  dying.swap(g_known);
}

}  // namespace skeleton
