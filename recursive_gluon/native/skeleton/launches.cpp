#include "launches.h"

#include <vector>

#include "arrays.h"

namespace skeleton {
namespace {

// MXNet's handle of an array that exists; null for all else.
NDArrayHandle existing(PyObject* array) {
  PyObject* raw = PyObject_TypeCheck(array, g.base) ? g.handle.of(array) : nullptr;
  return raw == nullptr || Py_TYPE(raw) == g.value ? nullptr : handle_of(raw);
}

// Raises what MXNet says.
PyObject* failed() {
  Ref code(PyLong_FromLong(-1));
  PyObject* arg = code.get();
  Ref never(arg == nullptr ? nullptr : call(g.check_call.get(), &arg, 1));
  return nullptr;
}

}  // namespace

PyObject* known_of_array(PyObject*, PyObject* array) {
  NDArrayHandle handle = existing(array);
  PyObject* aval = handle == nullptr ? nullptr : aval_of(array, handle);
  if (aval != nullptr) return Ref::to(aval).release();
  return PyErr_Occurred() ? nullptr : call(g.array_aval.get(), &array, 1);
}

PyObject* array_has_gradient(PyObject*, PyObject* array) {
  NDArrayHandle handle = existing(array);
  int found = handle == nullptr ? -1 : has_gradient(handle);
  return found < 0 ? call(g.has_gradient.get(), &array, 1) : PyBool_FromLong(found);
}

PyObject* launch(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static_assert(sizeof(CachedOpHandle) == sizeof(NDArrayHandle), "both are pointers");
  CachedOpHandle graph = count == 2 && PyList_CheckExact(args[1]) ? handle_of(args[0]) : nullptr;
  std::vector<NDArrayHandle> inputs;
  for (Py_ssize_t i = 0; graph != nullptr && i < PyList_GET_SIZE(args[1]); ++i) {
    inputs.push_back(existing(PyList_GET_ITEM(args[1], i)));
    if (inputs.back() == nullptr) graph = nullptr;
  }
  if (graph == nullptr) return call(g.launch.get(), args, count);
  int code, outputs = 0;
  NDArrayHandle* made = nullptr;
  const int* storage;
  Py_BEGIN_ALLOW_THREADS;
  code = MXInvokeCachedOpEx(graph, static_cast<int>(inputs.size()), inputs.data(), &outputs, &made, &storage);
  Py_END_ALLOW_THREADS;
  if (code != 0) return failed();
  std::vector<NDArrayHandle> handles(made, made + outputs);  // the memory is the library's, until it is called again
  PyObject* list = PyList_New(outputs);
  for (int i = 0; list != nullptr && i < outputs; ++i) PyList_SET_ITEM(list, i, PyLong_FromVoidPtr(handles[i]));
  return list;
}

namespace {

// What MXNet is told of a Call: its operator, and its attributes as text.
struct Told {
  AtomicSymbolCreator handle = nullptr;
  std::vector<const char*> keys, values;  // of the Call's strings, which live as long as the Call
};

bool texts_of(PyObject* tuple, std::vector<const char*>& texts) {
  if (!PyTuple_Check(tuple)) return PyErr_SetString(PyExc_TypeError, "attributes are tuples"), false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) {
    texts.push_back(PyUnicode_AsUTF8(PyTuple_GET_ITEM(tuple, i)));
    if (texts.back() == nullptr) return false;
  }
  return true;
}

bool tell(PyObject* op, Told& told) {
  told.handle = PyLong_AsVoidPtr(g.call_handle.of(op));
  told.keys.clear();
  told.values.clear();
  return !PyErr_Occurred() && texts_of(g.call_keys.of(op), told.keys) && texts_of(g.call_values.of(op), told.values);
}

// Handles that are freed unless they are released.
struct Handles {
  std::vector<NDArrayHandle> all;
  ~Handles() {
    for (NDArrayHandle handle : all)
      if (handle != nullptr) MXNDArrayFree(handle);
  }
};

}  // namespace

// (ops, inputs, own): run calls one by one; the handles of the values `own`.
PyObject* replay(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 3) return PyErr_SetString(PyExc_TypeError, "replay(ops, inputs, own)"), nullptr;
  Ref ops(PySequence_Fast(args[0], "calls")), inputs(PySequence_Fast(args[1], "arrays"));
  Ref own(PySequence_Fast(args[2], "values"));
  if (!ops || !inputs || !own) return nullptr;
  std::vector<NDArrayHandle> outside, reads;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(inputs.get()); ++i) {
    outside.push_back(existing(PySequence_Fast_GET_ITEM(inputs.get(), i)));
    if (outside.back() == nullptr) return call(g.replay.get(), args, count);
  }
  Handles values;
  Told told;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(ops.get()); ++i) {
    PyObject* op = PySequence_Fast_GET_ITEM(ops.get(), i);  // (Call, number of values, reads...)
    if (!PyTuple_Check(op) || PyTuple_GET_SIZE(op) < 2 || Py_TYPE(PyTuple_GET_ITEM(op, 0)) != g.call_type)
      return PyErr_SetString(PyExc_TypeError, "a call is a tuple of a Call and numbers"), nullptr;
    if (!tell(PyTuple_GET_ITEM(op, 0), told)) return nullptr;
    reads.clear();
    for (Py_ssize_t r = 2; r < PyTuple_GET_SIZE(op); ++r) {
      long read = PyLong_AsLong(PyTuple_GET_ITEM(op, r));
      const std::vector<NDArrayHandle>& from = read >= 0 ? values.all : outside;
      size_t at = static_cast<size_t>(read >= 0 ? read : ~read);
      if (at >= from.size()) return PyErr_SetString(PyExc_IndexError, "a value that there is not yet"), nullptr;
      reads.push_back(from[at]);
    }
    int outputs = 0, code;
    NDArrayHandle* made = nullptr;
    const int* storage;
    Py_BEGIN_ALLOW_THREADS;
    code = MXImperativeInvokeEx(told.handle, static_cast<int>(reads.size()), reads.data(), &outputs, &made,
                                static_cast<int>(told.keys.size()), told.keys.data(), told.values.data(), &storage);
    Py_END_ALLOW_THREADS;
    if (code != 0) return failed();
    values.all.insert(values.all.end(), made, made + outputs);
  }
  Ref list(PyList_New(PySequence_Fast_GET_SIZE(own.get())));
  for (Py_ssize_t i = 0; list && i < PySequence_Fast_GET_SIZE(own.get()); ++i) {
    long value = PyLong_AsLong(PySequence_Fast_GET_ITEM(own.get(), i));
    if (value < 0 || static_cast<size_t>(value) >= values.all.size())
      return PyErr_SetString(PyExc_IndexError, "a value that was not made"), nullptr;
    PyList_SET_ITEM(list.get(), i, PyLong_FromVoidPtr(values.all[value]));
    values.all[value] = nullptr;
  }
  return list.release();
}

PyObject* modes(PyObject*, PyObject*) {
  bool recording, training;
  int numpy_shape;
  if (MXAutogradIsRecording(&recording) != 0 || MXAutogradIsTraining(&training) != 0 ||
      MXIsNumpyShape(&numpy_shape) != 0)
    return failed();
  return Py_BuildValue("(iii)", recording ? 1 : 0, training ? 1 : 0, numpy_shape != 0 ? 1 : 0);
}

PyObject* held(PyObject*, PyObject* arrays) {
  Ref found(PySet_New(nullptr));
  if (!found || !PyList_CheckExact(arrays)) return PyErr_SetString(PyExc_TypeError, "held() takes a list"), nullptr;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(arrays); ++i) {
    PyObject* array = PyList_GET_ITEM(arrays, i);
    if (array == Py_None || Py_REFCNT(array) == 1) continue;  // the list alone has it
    Ref number(PyLong_FromSsize_t(i));
    if (!number || PySet_Add(found.get(), number.get()) != 0) return nullptr;
  }
  return found.release();
}

}  // namespace skeleton
