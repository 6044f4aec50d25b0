#include "work.h"

namespace skeleton {

// The state of the thread keeps what its threading.local keeps.
PyObject* current_log() {
  static PyObject* key = PyUnicode_InternFromString("recursive_gluon.log");
  PyObject* state = PyThreadState_GetDict();
  if (state == nullptr || key == nullptr) return nullptr;
  PyObject* found = PyDict_GetItemWithError(state, key);
  if (found != nullptr || PyErr_Occurred()) return found;
  Ref log(PyObject_GetAttrString(g.thread.get(), "log"));
  if (!log || Py_TYPE(log.get()) != g.log || PyDict_SetItem(state, key, log.get()) != 0) return nullptr;
  return log.get();
}

bool is_true(PyObject* number) { return number != nullptr && PyObject_IsTrue(number) == 1; }

// A lazy array and its Value, which is where the array keeps its handle.
PyObject* make_lazy(PyTypeObject* kind, PyObject* log, Py_ssize_t number, PyObject* aval) {
  Ref value(PyType_GenericAlloc(g.value, 0)), array(PyType_GenericAlloc(kind, 0)), index(PyLong_FromSsize_t(number));
  if (!value || !array || !index) return nullptr;
  g.value_log.set(value.get(), log);
  g.value_number.set(value.get(), index.get());
  g.value_aval.set(value.get(), aval);
  g.handle.set(array.get(), value.get());
  g.writable.set(array.get(), Py_True);
  // A program puts off tens of thousands of calls, and each collection of garbage would look at all that they made. No
  // cycle goes through these, but that of a log to itself; an array of mx.np has a dict, in which anything may be.
  PyObject_GC_UnTrack(value.get());
  if (kind == g.lazy_legacy) PyObject_GC_UnTrack(array.get());
  return array.release();
}

}  // namespace skeleton
