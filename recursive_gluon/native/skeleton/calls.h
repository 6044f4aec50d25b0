// The Call of an operator with its attributes, as capture/calls.py keeps it.
#pragma once

#include "python.h"

namespace skeleton {

struct Invocation {
  PyObject* handle;
  PyObject* const* arrays;
  Py_ssize_t num_arrays;
  PyObject* const* keys;
  PyObject* const* values;
  Py_ssize_t num_attributes;
  bool numpy, as_list;
};

// Borrowed. Null: values of a kind that only Python can tell apart, or an exception. Runs Python for one that is new.
PyObject* find_call(const Invocation& invocation);

void forget_calls();

}  // namespace skeleton
