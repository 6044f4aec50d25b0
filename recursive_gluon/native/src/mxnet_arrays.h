// MXNet's C API as the core calls it: what fails throws, arrays on the processor.
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

inline NDArrayHandle make_array(const std::vector<int64_t>& shape, int32_t type, int32_t device) {
  NDArrayHandle made = nullptr;
  want(MXNDArrayCreateEx64(shape.data(), static_cast<int>(shape.size()), 1, device, 0, type, &made));
  return made;
}

}  // namespace rg
