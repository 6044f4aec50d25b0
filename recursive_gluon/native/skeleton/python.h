// Python's objects, as far as they are needed here.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <utility>

namespace skeleton {

// A reference that is ours, and let go of.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* owned) : object_(owned) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  static Ref to(PyObject* borrowed) {
    Py_XINCREF(borrowed);
    return Ref(borrowed);
  }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// A member of a class with __slots__. The object must be one of that class.
class Slot {
 public:
  bool open(PyObject* kind, const char* name) {
    Ref found(PyObject_GetAttrString(kind, name));
    if (!found) return false;
    if (Py_TYPE(found.get()) != &PyMemberDescr_Type) {
      PyErr_Format(PyExc_TypeError, "%s is no slot", name);
      return false;
    }
    offset_ = reinterpret_cast<PyMemberDescrObject*>(found.get())->d_member->offset;
    return true;
  }
  // Borrowed; null where nothing was ever set.
  PyObject* of(PyObject* object) const { return *at(object); }
  void set(PyObject* object, PyObject* borrowed) const {
    Py_INCREF(borrowed);
    Py_XSETREF(*at(object), borrowed);
  }

 private:
  PyObject** at(PyObject* object) const {
    return reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset_);
  }
  Py_ssize_t offset_ = 0;
};

// As a fast call gets its arguments: those with names come last.
inline PyObject* call(PyObject* function, PyObject* const* args, Py_ssize_t count, PyObject* names = nullptr) {
  Ref tuple(PyTuple_New(count)), named(names == nullptr ? nullptr : PyDict_New());
  if (!tuple || (names != nullptr && !named)) return nullptr;
  for (Py_ssize_t i = 0; names != nullptr && i < PyTuple_GET_SIZE(names); ++i)
    if (PyDict_SetItem(named.get(), PyTuple_GET_ITEM(names, i), args[count + i]) != 0) return nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) {
    Py_INCREF(args[i]);
    PyTuple_SET_ITEM(tuple.get(), i, args[i]);
  }
  return PyObject_Call(function, tuple.get(), named.get());
}

struct Methods {
  Ref legacy, numpy;
};

// What Python tells about itself in setup().
struct Python {
  PyTypeObject *base = nullptr, *numpy_array = nullptr, *legacy_array = nullptr;  // MXNet's
  PyTypeObject *lazy_legacy = nullptr, *lazy_numpy = nullptr, *value = nullptr, *row = nullptr;
  PyTypeObject *log = nullptr, *work_kind = nullptr, *call_type = nullptr, *context_kind = nullptr;
  Ref thread, find_call;                   // the thread's log is an attribute of the first
  // What the functions here stand for:
  Ref invoke, legacy_helper, numpy_helper, legacy_verify, numpy_verify, array_aval, has_gradient, launch, replay;
  Ref check_call;
  Methods get_item, reshape, cast;
  Ref plans, remember, numpy_dtype;
  Ref legacy_operators, numpy_operators;  // dicts from MXNet's functions to handles of operators
  Ref pure, statistics;                          // kinds of Calls
  Slot handle, writable;                                 // of an array
  Slot value_log, value_number, value_aval;              // of a Value
  Slot row_aval;                                         // of a Row
  Slot aval_shape, aval_dtype, aval_context, aval_stype;  // of an Aval
  Slot call_handle, call_keys, call_values, call_kind, call_results, call_numpy, call_as_list, call_draws;  // of a Call
  Slot depth, busy, training, numpy_shape, work, expected, steady;     // of a Log
  Slot trigger;                                                        // of what is expected
  Slot located, context, ops, arrays, avals, draws, externals, external_avals, numbers, makers;  // of a Work
};
extern Python& g;  // never destroyed: at the end of the process Python is gone first

}  // namespace skeleton
