// Methods of lazy arrays. Each stands for one of Python, and makes again what that one put off for the same question.
#pragma once

#include "python.h"

namespace skeleton {

PyObject* get_item(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names);
PyObject* reshape(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names);
PyObject* cast(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names);

PyObject* shape(PyObject* module, PyObject* array);
PyObject* dtype(PyObject* module, PyObject* array);
PyObject* context(PyObject* module, PyObject* array);
PyObject* stype(PyObject* module, PyObject* array);

}  // namespace skeleton
