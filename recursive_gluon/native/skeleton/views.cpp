#include "views.h"

#include <vector>

#include "work.h"

namespace skeleton {
namespace {

bool is_plain(PyObject* object) { return object == Py_None || PyLong_CheckExact(object); }

// An argument as part of a key, where equal keys are the same question; null for arguments that are not of that kind.
PyObject* normal(PyObject* object) {
  if (is_plain(object) || object == Py_Ellipsis || PyUnicode_CheckExact(object) || Py_TYPE(object) == &PyType_Type)
    return Ref::to(object).release();
  if (PySlice_Check(object)) {
    auto* slice = reinterpret_cast<PySliceObject*>(object);
    if (!is_plain(slice->start) || !is_plain(slice->stop) || !is_plain(slice->step)) return nullptr;
    return PyTuple_Pack(4, &PySlice_Type, slice->start, slice->stop, slice->step);
  }
  if (!PyTuple_CheckExact(object)) return nullptr;
  Ref made(PyTuple_New(PyTuple_GET_SIZE(object)));
  for (Py_ssize_t i = 0; made && i < PyTuple_GET_SIZE(object); ++i) {
    PyObject* item = normal(PyTuple_GET_ITEM(object, i));
    if (item == nullptr) return nullptr;
    PyTuple_SET_ITEM(made.get(), i, item);
  }
  return made.release();
}

bool is_lazy(PyObject* array) { return Py_TYPE(array) == g.lazy_legacy || Py_TYPE(array) == g.lazy_numpy; }

// What is asked: which method, of which class, in which mode, of what kind of array, with which arguments.
Ref question(PyObject* method, PyObject* log, PyObject* const* args, Py_ssize_t count) {
  Ref key(PyTuple_New(count + 3));
  if (!key) return key;
  PyTuple_SET_ITEM(key.get(), 0, Ref::to(method).release());
  PyTuple_SET_ITEM(key.get(), 1, Ref::to(reinterpret_cast<PyObject*>(Py_TYPE(args[0]))).release());
  PyTuple_SET_ITEM(key.get(), 2, Ref::to(g.numpy_shape.of(log)).release());
  PyTuple_SET_ITEM(key.get(), 3, Ref::to(g.value_aval.of(g.handle.of(args[0]))).release());
  for (Py_ssize_t i = 1; i < count; ++i) {
    PyObject* item = normal(args[i]);
    if (item == nullptr) return Ref();
    PyTuple_SET_ITEM(key.get(), i + 3, item);
  }
  return key;
}

struct Step {
  Ref call, array, maker;
  PyObject* aval;
};

PyObject* part(PyObject* step, Py_ssize_t at) { return PyTuple_GET_ITEM(step, at); }

// Puts off what the plan says; null where Python must do it, or an exception.
PyObject* make(PyObject* plan, PyObject* log, PyObject* value) {
  State state(log);
  if (!state.quick()) return nullptr;
  std::vector<Step> steps;
  Ref read = Ref::to(g.value_number.of(value)), self = Ref::to(read.get());
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plan); ++i) {
    PyObject *step = PyTuple_GET_ITEM(plan, i), *kind = part(step, 2), *view = part(step, 3);
    Ref number(PyLong_FromSsize_t(state.values() + i)), one(PyLong_FromLong(1));
    if (!number || !one) return nullptr;
    auto* type = reinterpret_cast<PyTypeObject*>(kind);
    Step made{Ref(PyTuple_Pack(3, part(step, 0), one.get(), read.get())),
              kind == Py_None ? Ref::to(Py_None) : Ref(make_lazy(type, log, state.values() + i, part(step, 1))), Ref(),
              part(step, 1)};
    if (!made.call || !made.array) return nullptr;
    PyObject_GC_UnTrack(made.call.get());  // see make_lazy
    if (view != Py_None) {
      Py_ssize_t base = PyLong_AsSsize_t(part(step, 4));
      Ref source(base < 0 ? Ref::to(self.get()) : Ref(PyLong_FromSsize_t(state.values() + base)));
      made.maker = Ref(source ? PyTuple_Pack(3, number.get(), source.get(), view) : nullptr);
      if (!made.maker) return nullptr;
    }
    steps.push_back(std::move(made));
    read = std::move(number);
  }
  if (!state.same()) return nullptr;
  for (const Step& step : steps)
    if (!state.add_call(step.call.get()) || !state.add_value(step.array.get(), step.aval) ||
        (step.maker && PyList_Append(g.makers.of(state.work()), step.maker.get()) != 0))
      return nullptr;
  return steps.back().array.release();
}

PyObject* planned(const Methods& methods, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  bool lazy = count > 0 && is_lazy(args[0]);
  PyObject* method = lazy && Py_TYPE(args[0]) == g.lazy_legacy ? methods.legacy.get() : methods.numpy.get();
  PyObject* raw = lazy ? g.handle.of(args[0]) : nullptr;
  PyObject* log = raw != nullptr && Py_TYPE(raw) == g.value && names == nullptr ? current_log() : nullptr;
  Ref key = log != nullptr && g.value_log.of(raw) == log ? question(method, log, args, count) : Ref();
  if (PyErr_Occurred()) return nullptr;
  if (!key) return call(method, args, count, names);
  PyObject* plan = PyDict_GetItemWithError(g.plans.get(), key.get());
  if (plan == nullptr) {
    if (PyErr_Occurred()) return nullptr;
    std::vector<PyObject*> all{key.get(), method};
    all.insert(all.end(), args, args + count);
    return call(g.remember.get(), all.data(), count + 2);
  }
  Ref kept = Ref::to(plan);
  PyObject* made = plan == Py_None ? nullptr : make(plan, log, raw);
  return made != nullptr || PyErr_Occurred() ? made : call(method, args, count);
}

// What is known of a lazy array; of one that became an ordinary one meanwhile, what it says itself.
PyObject* known(PyObject* array, const Slot& slot, const char* name) {
  PyObject* raw = PyObject_TypeCheck(array, g.base) ? g.handle.of(array) : nullptr;
  PyObject* aval = raw == nullptr ? nullptr
                   : Py_TYPE(raw) == g.value ? g.value_aval.of(raw)
                   : Py_TYPE(raw) == g.row   ? g.row_aval.of(raw)
                                             : nullptr;
  if (aval != nullptr) return Ref::to(slot.of(aval)).release();
  if (!is_lazy(array)) return PyObject_GetAttrString(array, name);
  return PyErr_SetString(PyExc_RuntimeError, "a lazy array without a value"), nullptr;
}

}  // namespace

PyObject* get_item(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return planned(g.get_item, args, count, names);
}
PyObject* reshape(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return planned(g.reshape, args, count, names);
}
PyObject* cast(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return planned(g.cast, args, count, names);
}

PyObject* shape(PyObject*, PyObject* array) { return known(array, g.aval_shape, "shape"); }
PyObject* dtype(PyObject*, PyObject* array) {
  Ref found(known(array, g.aval_dtype, "dtype"));
  PyObject* kind = found.get();
  return kind == nullptr || Py_TYPE(array) != g.lazy_numpy ? found.release() : call(g.numpy_dtype.get(), &kind, 1);
}
PyObject* context(PyObject*, PyObject* array) { return known(array, g.aval_context, "context"); }
PyObject* stype(PyObject*, PyObject* array) { return known(array, g.aval_stype, "stype"); }

}  // namespace skeleton
