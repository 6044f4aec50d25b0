// What is known of arrays that exist.
#pragma once

#include <mxnet/c_api.h>

#include "python.h"

namespace skeleton {

// MXNet's handle behind what stands in the slot of an array; null where there is none.
NDArrayHandle handle_of(PyObject* raw);

// Borrowed, kept for good as all Avals are. Null: MXNet cannot tell, or an exception. Runs Python for one that is new.
PyObject* aval_of(PyObject* array, NDArrayHandle handle);

// 1, 0, or -1 where MXNet cannot tell.
int has_gradient(NDArrayHandle handle);

}  // namespace skeleton
