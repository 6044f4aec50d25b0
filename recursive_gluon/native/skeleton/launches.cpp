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
