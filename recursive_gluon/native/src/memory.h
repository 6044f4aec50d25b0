// Memory of runs: blocks that outlive a run, because fresh memory costs page faults at every step.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rg {

void* borrow(size_t bytes);                   // aligned to 64 bytes; throws Error kMemory
void give_back(void* block);
void trim(size_t keep);                       // frees idle blocks beyond `keep` bytes
int64_t borrowed_bytes();

// A block with room for `size` numbers, which can be made larger.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_), owned_(other.owned_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  ~Buffer() { clear(); }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  int64_t borrowed() const { return owned_ ? size_ : 0; }
  void clear() {
    if (data_ != nullptr && owned_) give_back(data_);
    data_ = nullptr;
    size_ = 0;
    owned_ = true;
  }
  // Lies in memory of somebody else.
  void lie(T* at, int64_t size) {
    clear();
    data_ = at;
    size_ = size;
    owned_ = false;
  }
  // Room for `size` numbers; the first `keep` stay.
  void reserve(int64_t size, int64_t keep = 0);

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
  bool owned_ = true;
};

}  // namespace rg
