#include "put_off.h"

#include <array>

#include "arrays.h"
#include "calls.h"
#include "work.h"

namespace skeleton {

namespace {

constexpr Py_ssize_t kMost = 16;  // inputs of a call; more go the long way

bool is_array(PyObject* object) { return PyObject_TypeCheck(object, g.base); }

bool is_lazy(PyObject* array) {
  PyObject* raw = g.handle.of(array);
  return raw != nullptr && Py_TYPE(raw) == g.value;
}

// An array that was not read by this work before gets a number. 0: Python must do it, or an exception.
Py_ssize_t number_external(PyObject* log, PyObject* work, PyObject* array, PyObject* raw, PyObject* id) {
  PyObject* externals = g.externals.of(work);
  Py_ssize_t count = PyList_GET_SIZE(externals) + 1;
  PyObject* expected = g.expected.of(log);
  if (expected != Py_None && count >= PyLong_AsSsize_t(g.trigger.of(expected))) return 0;
  PyObject* aval = nullptr;
  PyObject* steady = PyDict_GetItemWithError(g.steady.of(log), id);
  if (steady != nullptr && PyTuple_GET_ITEM(steady, 0) == array) {
    aval = PyTuple_GET_ITEM(steady, 1);
  } else {
    NDArrayHandle handle = handle_of(raw);
    if (handle == nullptr || has_gradient(handle) != 0) return 0;
    aval = aval_of(array, handle);
    // Python may have run for a new Aval.
    if (aval == nullptr || g.work.of(log) != work || PyList_GET_SIZE(externals) + 1 != count) return 0;
  }
  Ref number(PyLong_FromSsize_t(-count));
  if (!number || PyList_Append(externals, array) != 0) return 0;
  if (PyList_Append(g.external_avals.of(work), aval) != 0 ||
      PyDict_SetItem(g.numbers.of(work), id, number.get()) != 0)
    return 0;
  return -count;
}

// Log._put_off for what is quick. Null without an exception: Python is to do the call.
PyObject* put_off(const Invocation& asked) {
  PyObject* log = current_log();
  if (log == nullptr || asked.num_arrays > kMost) return nullptr;
  if (!is_true(g.depth.of(log))) {  // outside of the program: what reads no array that was put off runs now
    bool reads = false;
    for (Py_ssize_t i = 0; i < asked.num_arrays && !reads; ++i)
      reads = is_array(asked.arrays[i]) && is_lazy(asked.arrays[i]);
    if (!reads) return nullptr;
  }
  Ref op = Ref::to(find_call(asked));
  State state(log);
  PyObject *work = state.work(), *kind = op ? g.call_kind.of(op.get()) : nullptr;
  if (!op || !state.quick() || kind == g.statistics.get()) return nullptr;

  std::array<Py_ssize_t, kMost> reads;
  Ref known(PyTuple_New(asked.num_arrays + 1));
  if (!known) return nullptr;
  Py_INCREF(g.numpy_shape.of(log));
  PyTuple_SET_ITEM(known.get(), 0, g.numpy_shape.of(log));
  for (Py_ssize_t i = 0; i < asked.num_arrays; ++i) {
    PyObject *array = asked.arrays[i], *aval = nullptr;
    PyObject* raw = is_array(array) ? g.handle.of(array) : nullptr;
    if (raw == nullptr) return nullptr;
    if (Py_TYPE(raw) == g.value) {
      if (g.value_log.of(raw) != log) return nullptr;  // another thread's
      reads[i] = PyLong_AsSsize_t(g.value_number.of(raw));
      aval = g.value_aval.of(raw);
    } else {
      Ref id(PyLong_FromVoidPtr(array));
      if (!id) return nullptr;
      PyObject* number = PyDict_GetItemWithError(g.numbers.of(work), id.get());
      reads[i] = number != nullptr ? PyLong_AsSsize_t(number)
                                   : number_external(log, work, array, raw, id.get());
      if (reads[i] >= 0) return nullptr;
      aval = PyList_GET_ITEM(g.external_avals.of(work), ~reads[i]);
    }
    Py_INCREF(aval);
    PyTuple_SET_ITEM(known.get(), i + 1, aval);
  }
  Ref results = Ref::to(PyDict_GetItemWithError(g.call_results.of(op.get()), known.get()));
  if (!results || results.get() == Py_None) return nullptr;
  Py_ssize_t count = PyTuple_GET_SIZE(results.get()), first = state.values();
  PyObject* context = g.aval_context.of(PyTuple_GET_ITEM(results.get(), 0));
  if (context != g.context.of(work) && state.calls() != 0) return nullptr;
  bool draws = kind != g.pure.get() &&
               PyTuple_GET_ITEM(g.call_draws.of(op.get()), is_true(g.training.of(log))) == Py_True;

  // All that is new is made first: it may have Python collect garbage, and so run code of anybody's.
  Ref noted(PyTuple_New(asked.num_arrays + 2)), drawn(PyLong_FromSsize_t(first)), made;
  if (!noted || !drawn) return nullptr;
  PyTuple_SET_ITEM(noted.get(), 0, Ref::to(op.get()).release());
  PyTuple_SET_ITEM(noted.get(), 1, PyLong_FromSsize_t(count));
  for (Py_ssize_t i = 0; i < asked.num_arrays; ++i) PyTuple_SET_ITEM(noted.get(), i + 2, PyLong_FromSsize_t(reads[i]));
  PyObject_GC_UnTrack(noted.get());  // a Call and numbers; see make_lazy
  PyTypeObject* lazy = g.call_numpy.of(op.get()) == Py_True ? g.lazy_numpy : g.lazy_legacy;
  bool listed = count != 1 || g.call_as_list.of(op.get()) == Py_True;
  made = Ref(listed ? PyList_New(count) : make_lazy(lazy, log, first, PyTuple_GET_ITEM(results.get(), 0)));
  for (Py_ssize_t i = 0; made && listed && i < count; ++i) {
    PyObject* array = make_lazy(lazy, log, first + i, PyTuple_GET_ITEM(results.get(), i));
    if (array == nullptr) return nullptr;
    PyList_SET_ITEM(made.get(), i, array);
  }
  if (!made || !state.same()) return nullptr;

  if (state.calls() == 0) g.context.set(work, context);
  if (draws && PyList_Append(g.draws.of(work), drawn.get()) != 0) return nullptr;
  if (!state.add_call(noted.get())) return nullptr;
  for (Py_ssize_t i = 0; i < count; ++i)
    if (!state.add_value(listed ? PyList_GET_ITEM(made.get(), i) : made.get(), PyTuple_GET_ITEM(results.get(), i)))
      return nullptr;
  return made.release();
}

// `array op array`, `array op number` or `number op array`; null as put_off is, also for what only Python can tell.
PyObject* arithmetic(PyObject* const* args, Py_ssize_t count, PyObject* operators, bool numpy) {
  if (count < 5 || (count > 6 && args[6] != Py_None)) return nullptr;
  auto ours = [numpy](PyObject* object) {
    return is_array(object) && PyObject_TypeCheck(object, g.numpy_array) == numpy &&
           PyObject_TypeCheck(object, g.legacy_array);
  };
  auto plain = [](PyObject* object) {
    return PyFloat_CheckExact(object) || PyLong_CheckExact(object) || PyBool_Check(object);
  };
  static PyObject* scalar = PyUnicode_InternFromString("scalar");
  PyObject *function, *number = nullptr, *arrays[] = {args[0], args[1]};
  if (ours(args[0]) && ours(args[1])) {
    function = args[2];
  } else if (ours(args[0]) && plain(args[1])) {
    function = args[4], number = args[1];
  } else if (plain(args[0]) && ours(args[1])) {
    function = count > 5 && args[5] != Py_None ? args[5] : args[4], number = args[0], arrays[0] = args[1];
  } else {
    return nullptr;
  }
  PyObject* handle = PyDict_GetItemWithError(operators, function);
  if (handle == nullptr) return nullptr;
  Ref value(number != nullptr ? PyNumber_Float(number) : nullptr);
  if (number != nullptr && !value) return PyErr_Clear(), nullptr;  // an integer too large: Python says so
  PyObject* values[] = {value.get()};
  return put_off({handle, arrays, number != nullptr ? 1 : 2, &scalar, values, number != nullptr ? 1 : 0, numpy, false});
}

// What the short way made, or else what Python makes.
PyObject* or_python(PyObject* made, PyObject* function, PyObject* const* args, Py_ssize_t count) {
  return made != nullptr || PyErr_Occurred() ? made : call(function, args, count);
}

PyObject* checked(PyObject* original, bool numpy, PyObject* const* args, Py_ssize_t count) {
  bool right = count == 4 && args[3] == Py_None && PyList_CheckExact(args[2]);
  for (Py_ssize_t i = 0; right && i < PyList_GET_SIZE(args[2]); ++i) {
    PyObject* array = PyList_GET_ITEM(args[2], i);
    right = is_array(array) && PyObject_TypeCheck(array, g.numpy_array) == numpy;
  }
  if (!right) return call(original, args, count);
  Py_RETURN_NONE;
}

}  // namespace

PyObject* invoke(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 7 || args[4] != Py_None || !PyList_CheckExact(args[1]) || !PyList_CheckExact(args[2]) ||
      !PyList_CheckExact(args[3]) || PyList_GET_SIZE(args[2]) != PyList_GET_SIZE(args[3]))
    return call(g.invoke.get(), args, count);
  auto items = [](PyObject* list) { return reinterpret_cast<PyListObject*>(list)->ob_item; };
  return or_python(put_off({args[0], items(args[1]), PyList_GET_SIZE(args[1]), items(args[2]), items(args[3]),
                            PyList_GET_SIZE(args[2]), args[5] == Py_True, args[6] == Py_True}),
                   g.invoke.get(), args, count);
}

PyObject* legacy_arithmetic(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return or_python(arithmetic(args, count, g.legacy_operators.get(), false), g.legacy_helper.get(), args, count);
}

PyObject* numpy_arithmetic(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return or_python(arithmetic(args, count, g.numpy_operators.get(), true), g.numpy_helper.get(), args, count);
}

PyObject* verify_legacy(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return checked(g.legacy_verify.get(), false, args, count);
}

PyObject* verify_numpy(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return checked(g.numpy_verify.get(), true, args, count);
}

}  // namespace skeleton
