// Operator calls that are put off. Each function stands for one of Python, and hands on to it what is not quick.
#pragma once

#include "python.h"

namespace skeleton {

// Stands for mxnet.ndarray.register._imperative_invoke.
PyObject* invoke(PyObject* module, PyObject* const* args, Py_ssize_t count);

// Stand for _ufunc_helper of mxnet.ndarray.ndarray and of mxnet.ndarray.numpy._op, through which arithmetic goes.
PyObject* legacy_arithmetic(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* numpy_arithmetic(PyObject* module, PyObject* const* args, Py_ssize_t count);

// Stand for _verify_all_legacy_ndarrays and _verify_all_np_ndarrays of mxnet.ndarray.register.
PyObject* verify_legacy(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* verify_numpy(PyObject* module, PyObject* const* args, Py_ssize_t count);

}  // namespace skeleton
