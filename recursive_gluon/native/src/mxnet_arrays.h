// MXNet's C API as the core calls it: what fails throws.
#pragma once

#include <mxnet/c_api.h>

#include <vector>

#include "common.h"

extern "C" int NNGetOpHandle(const char* name, void** handle);  // of libmxnet.so

namespace rg {

inline void want(int result) {
  if (result != 0) throw Error(Kind::kMxnet, MXGetLastError());
}

inline void* data_of(NDArrayHandle array) {
  void* data = nullptr;
  want(MXNDArrayGetData(array, &data));
  return data;
}

// A context, by MXNet's numbers.
struct Context {
  int32_t type = 1, id = 0;
  bool gpu() const { return type == 2; }
};

inline NDArrayHandle make_array(const std::vector<int64_t>& shape, int32_t type, Context context) {
  NDArrayHandle made = nullptr;
  want(MXNDArrayCreateEx64(shape.data(), static_cast<int>(shape.size()), context.type, context.id, 0, type, &made));
  return made;
}

// An array of integers that `fill(int32_t*)` writes.
template <class Fill>
NDArrayHandle make_integers(int64_t count, Context context, Fill fill) {
  NDArrayHandle made = make_array({count}, 4, context);
  try {
    if (!context.gpu()) {
      fill(static_cast<int32_t*>(data_of(made)));
    } else {
      std::vector<int32_t> host(static_cast<size_t>(count));
      fill(host.data());
      want(MXNDArraySyncCopyFromCPU(made, host.data(), host.size()));
    }
  } catch (...) {
    MXNDArrayFree(made);
    throw;
  }
  return made;
}

}  // namespace rg
