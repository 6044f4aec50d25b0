// Copies on the device of what launches read and never changes: element-wise programs, maps of columns.
#pragma once

#include <string>
#include <unordered_map>

#include "errors.cuh"

namespace rg {
namespace cuda {

// By content, so that a program that is freed and another at its address are no trouble. There are as many as a user's
// models have instructions, so they stay until the backend goes.
class Constants {
 public:
  explicit Constants(cudaStream_t stream) : stream_(stream) {}
  Constants(const Constants&) = delete;
  Constants& operator=(const Constants&) = delete;
  ~Constants() {
    for (auto& copy : copies_) cudaFreeAsync(copy.second, stream_);
  }

  // Where a copy of `bytes` lies. It is there when this returns, for every stream.
  const void* at(const std::string& bytes) {
    auto found = copies_.find(bytes);
    if (found != copies_.end()) return found->second;
    void* copy = nullptr;
    ok(cudaMallocAsync(&copy, bytes.empty() ? 1 : bytes.size(), stream_), "get memory for a program");
    copies_.emplace(bytes, copy);
    ok(cudaMemcpyAsync(copy, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, stream_), "upload a program");
    ok(cudaStreamSynchronize(stream_), "upload a program");
    return copy;
  }

 private:
  cudaStream_t stream_;
  std::unordered_map<std::string, void*> copies_;
};

}  // namespace cuda
}  // namespace rg
