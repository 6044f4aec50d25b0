// The module: setup() gets Python's objects by name, the functions then stand for MXNet's.
#include <string>

#include "batches.h"
#include "launches.h"
#include "put_off.h"
#include "views.h"

namespace skeleton {

Python& g = *new Python;

namespace {

bool take(PyObject* names, const char* name, Ref& into) {
  PyObject* found = PyDict_GetItemString(names, name);
  if (found == nullptr) {
    PyErr_SetString(PyExc_KeyError, name);
    return false;
  }
  into = Ref::to(found);
  return true;
}

// Types live as long as the process: a reference is kept for good.
bool take_type(PyObject* names, const char* name, PyTypeObject*& into) {
  Ref found;
  if (!take(names, name, found)) return false;
  if (!PyType_Check(found.get())) {
    PyErr_Format(PyExc_TypeError, "%s is no class", name);
    return false;
  }
  into = reinterpret_cast<PyTypeObject*>(found.release());
  return true;
}

bool take_methods(PyObject* names, const std::string& name, Methods& into) {
  return take(names, (name + "_legacy").c_str(), into.legacy) && take(names, (name + "_numpy").c_str(), into.numpy);
}

struct Member {
  const char* name;
  Slot* slot;
};

bool open_slots(PyObject* names, const char* kind, std::initializer_list<Member> members) {
  Ref type;
  if (!take(names, kind, type)) return false;
  for (const Member& member : members)
    if (!member.slot->open(type.get(), member.name)) return false;
  return true;
}

PyObject* setup(PyObject*, PyObject* names) {
  if (!PyDict_Check(names)) return PyErr_SetString(PyExc_TypeError, "setup() takes a dict"), nullptr;
  bool done =
      take_type(names, "NDArrayBase", g.base) && take_type(names, "ndarray", g.numpy_array) &&
      take_type(names, "NDArray", g.legacy_array) && take_type(names, "LazyLegacy", g.lazy_legacy) &&
      take_type(names, "LazyNumPy", g.lazy_numpy) && take_type(names, "Value", g.value) &&
      take_type(names, "Log", g.log) && take_type(names, "Work", g.work_kind) &&
      take_type(names, "Context", g.context_kind) && take(names, "thread", g.thread) &&
      take(names, "call", g.find_call) && take(names, "invoke", g.invoke) &&
      take(names, "array_aval", g.array_aval) && take(names, "has_gradient", g.has_gradient) &&
      take(names, "launch", g.launch) && take(names, "replay", g.replay) && take_type(names, "Call", g.call_type) &&
      take(names, "check_call", g.check_call) &&
      take(names, "legacy_helper", g.legacy_helper) && take(names, "numpy_helper", g.numpy_helper) &&
      take(names, "legacy_verify", g.legacy_verify) && take(names, "numpy_verify", g.numpy_verify) &&
      take(names, "legacy_operators", g.legacy_operators) && take(names, "numpy_operators", g.numpy_operators) &&
      take_methods(names, "get_item", g.get_item) && take_methods(names, "reshape", g.reshape) &&
      take_methods(names, "cast", g.cast) && take(names, "plans", g.plans) && take(names, "remember", g.remember) &&
      take(names, "numpy_dtype", g.numpy_dtype) && take_type(names, "Row", g.row) &&
      open_slots(names, "Row", {{"aval", &g.row_aval}}) &&
      take(names, "PURE", g.pure) && take(names, "STATISTICS", g.statistics) &&
      open_slots(names, "NDArrayBase", {{"handle", &g.handle}, {"writable", &g.writable}}) &&
      open_slots(names, "Value", {{"log", &g.value_log}, {"number", &g.value_number}, {"aval", &g.value_aval}}) &&
      open_slots(names, "Aval", {{"shape", &g.aval_shape}, {"dtype", &g.aval_dtype}, {"context", &g.aval_context},
                                 {"stype", &g.aval_stype}}) &&
      open_slots(names, "Call", {{"kind", &g.call_kind}, {"results", &g.call_results}, {"numpy", &g.call_numpy},
                                 {"as_list", &g.call_as_list}, {"draws", &g.call_draws}, {"handle", &g.call_handle},
                                 {"keys", &g.call_keys}, {"values", &g.call_values}}) &&
      open_slots(names, "Log", {{"depth", &g.depth}, {"busy", &g.busy}, {"training", &g.training},
                                {"numpy_shape", &g.numpy_shape}, {"work", &g.work}, {"expected", &g.expected},
                                {"steady", &g.steady}}) &&
      open_slots(names, "Known", {{"trigger", &g.trigger}}) &&
      open_slots(names, "Work", {{"located", &g.located}, {"context", &g.context}, {"ops", &g.ops},
                                 {"arrays", &g.arrays}, {"avals", &g.avals}, {"draws", &g.draws},
                                 {"externals", &g.externals}, {"external_avals", &g.external_avals},
                                 {"numbers", &g.numbers}, {"makers", &g.makers}});
  if (!done) return nullptr;
  // A lazy array has nothing to free: its __del__ does nothing, and is not called.
  g.lazy_legacy->tp_finalize = g.lazy_numpy->tp_finalize = nullptr;
  Py_RETURN_NONE;
}

template <class Function>
PyCFunction plain(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef g_functions[] = {
    {"setup", setup, METH_O, "Takes what is needed of Python, by name."},
    {"invoke", plain(invoke), METH_FASTCALL, "Stands for _imperative_invoke."},
    {"legacy_helper", plain(legacy_arithmetic), METH_FASTCALL, "Stands for _ufunc_helper of mxnet.nd."},
    {"numpy_helper", plain(numpy_arithmetic), METH_FASTCALL, "Stands for _ufunc_helper of mxnet.np."},
    {"legacy_verify", plain(verify_legacy), METH_FASTCALL, "Stands for _verify_all_legacy_ndarrays."},
    {"numpy_verify", plain(verify_numpy), METH_FASTCALL, "Stands for _verify_all_np_ndarrays."},
    {"array_aval", known_of_array, METH_O, "Stands for array_aval."},
    {"has_gradient", array_has_gradient, METH_O, "Stands for has_gradient of bridge/log.py."},
    {"launch", plain(launch), METH_FASTCALL, "Stands for launch of bridge/segments.py."},
    {"replay", plain(replay), METH_FASTCALL, "Stands for replay of bridge/segments.py."},
    {"modes", modes, METH_NOARGS, "Stands for modes of bridge/log.py."},
    {"held", held, METH_O, "Stands for held of bridge/work.py."},
    {"kinds", plain(kinds), METH_FASTCALL, "Stands for kinds of bridge/batching.py."},
    {"agenda", plain(agenda), METH_FASTCALL, "Stands for agenda of bridge/batching.py."},
    {"spreads", plain(spreads), METH_FASTCALL, "Stands for spreads of bridge/batching.py."},
    {"get_item", plain(get_item), METH_FASTCALL | METH_KEYWORDS, "Stands for __getitem__ of a lazy array."},
    {"reshape", plain(reshape), METH_FASTCALL | METH_KEYWORDS, "Stands for reshape or reshape_view of a lazy array."},
    {"cast", plain(cast), METH_FASTCALL | METH_KEYWORDS, "Stands for astype of a lazy array."},
    {"shape", shape, METH_O, "Stands for the property."},
    {"dtype", dtype, METH_O, "Stands for the property."},
    {"context", context, METH_O, "Stands for the property."},
    {"stype", stype, METH_O, "Stands for the property."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef g_module = {PyModuleDef_HEAD_INIT, "skeleton", "Operator calls, put off quickly.", -1, g_functions,
                        nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace skeleton

PyMODINIT_FUNC PyInit_skeleton() {
  skeleton::Ref module(PyModule_Create(&skeleton::g_module));
  for (const char* name : {"get_item", "reshape", "cast"}) {  // a function of C does not become a method by itself
    skeleton::Ref function(module ? PyObject_GetAttrString(module.get(), name) : nullptr);
    skeleton::Ref method(function ? PyInstanceMethod_New(function.get()) : nullptr);
    if (!method || PyObject_SetAttrString(module.get(), name, method.get()) != 0) return nullptr;
  }
  return module.release();
}
