// CUDA's errors as ours.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "../common.h"

namespace rg {
namespace cuda {

// `doing` is what was tried, for the message.
inline void ok(cudaError_t error, const std::string& doing) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is not fatal must not be told again by the next call
  throw Error(error == cudaErrorMemoryAllocation ? Kind::kMemory : Kind::kInternal,
              "CUDA cannot " + doing + ": " + cudaGetErrorString(error));
}

}  // namespace cuda
}  // namespace rg
