// Planning of calls that are to run as one: what of bridge/batching.py walks over all calls of a work.
#pragma once

#include "python.h"

namespace skeleton {

PyObject* kinds(PyObject* module, PyObject* const* args, Py_ssize_t count);   // (work, shared)
PyObject* agenda(PyObject* module, PyObject* const* args, Py_ssize_t count);  // (ops, kinds, number of kinds)
PyObject* spreads(PyObject* module, PyObject* const* args, Py_ssize_t count);  // (ops, groups, bits, needed)

}  // namespace skeleton
