// What a launch needs, each standing for a function of Python.
#pragma once

#include "python.h"

namespace skeleton {

PyObject* known_of_array(PyObject* module, PyObject* array);
PyObject* array_has_gradient(PyObject* module, PyObject* array);
PyObject* launch(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* modes(PyObject* module, PyObject* none);
PyObject* held(PyObject* module, PyObject* arrays);

// Stands for replay of bridge/segments.py.
PyObject* replay(PyObject* module, PyObject* const* args, Py_ssize_t count);

}  // namespace skeleton
