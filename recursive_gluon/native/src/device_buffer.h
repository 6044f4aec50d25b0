// A block of a backend's memory, with room for `size` numbers.
#pragma once

#include <algorithm>
#include <utility>

#include "backend.h"
#include "common.h"

namespace rg {

template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  DeviceBuffer(DeviceBuffer&& other) noexcept : backend_(other.backend_), data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  ~DeviceBuffer() {
    try {
      if (data_ != nullptr) backend_->free(data_);
    } catch (const Error&) {  // a device that failed has said so already
    }
  }

  T* data() const { return data_; }
  int64_t size() const { return size_; }

  // Room for `size` numbers; the first `keep` stay. No lane may be using the block: what moves is waited for.
  void reserve(Backend& backend, int64_t size, int64_t keep = 0) {
    if (size <= size_) return;
    DeviceBuffer next;
    next.backend_ = &backend;
    next.size_ = size_ == 0 ? size : std::max(size, 2 * size_);
    next.data_ = static_cast<T*>(backend.alloc(static_cast<size_t>(next.size_) * sizeof(T)));
    if (keep > 0) backend.copy(0, next.data_, data_, static_cast<size_t>(keep) * sizeof(T));
    if (data_ != nullptr) backend.synchronise();
    std::swap(backend_, next.backend_);
    std::swap(data_, next.data_);
    std::swap(size_, next.size_);
  }

 private:
  Backend* backend_ = nullptr;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace rg
