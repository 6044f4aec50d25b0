#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>

#include "common.h"

namespace rg {
namespace {

constexpr size_t kIdleBytes = size_t(1) << 30;  // more than this is given back to the system

struct Pool {
  std::mutex mutex;
  std::multimap<size_t, void*> idle;
  std::unordered_map<void*, size_t> used;
  size_t idle_bytes = 0, used_bytes = 0;
};
Pool& pool() {
  static Pool* p = new Pool;  // outlives every thread
  return *p;
}

void trim_locked(Pool& p, size_t keep) {
  while (p.idle_bytes > keep) {
    auto largest = std::prev(p.idle.end());
    std::free(largest->second);
    p.idle_bytes -= largest->first;
    p.idle.erase(largest);
  }
}

}  // namespace

void* borrow(size_t bytes) {
  Pool& p = pool();
  size_t step = 4096;
  while (step * 8 < bytes) step *= 2;  // at most an eighth more than asked for, so that the next run finds it
  size_t size = std::max<size_t>((bytes + step - 1) / step * step, step);
  std::lock_guard<std::mutex> guard(p.mutex);
  auto fit = p.idle.lower_bound(size);
  void* block = nullptr;
  if (fit != p.idle.end() && fit->first <= size + size / 2) {
    block = fit->second;
    size = fit->first;
    p.idle_bytes -= size;
    p.idle.erase(fit);
  } else {
    if (bytes < (size_t(1) << 46)) block = std::aligned_alloc(4096, size);
    if (block == nullptr) {
      trim_locked(p, 0);
      if (bytes < (size_t(1) << 46)) block = std::aligned_alloc(4096, size);
    }
    if (block == nullptr)
      throw Error(Kind::kMemory, "no memory for " + std::to_string(bytes) + " bytes (in use by runs: " +
                                     std::to_string(p.used_bytes) + " bytes)");
  }
  p.used[block] = size;
  p.used_bytes += size;
  return block;
}

void give_back(void* block) {
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.mutex);
  auto at = p.used.find(block);
  if (at == p.used.end()) return;
  p.idle.emplace(at->second, block);
  p.idle_bytes += at->second;
  p.used_bytes -= at->second;
  p.used.erase(at);
  trim_locked(p, kIdleBytes);
}

void trim(size_t keep) {
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.mutex);
  trim_locked(p, keep);
}

int64_t borrowed_bytes() {
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.mutex);
  return static_cast<int64_t>(p.used_bytes);
}

template <class T>
void Buffer<T>::reserve(int64_t size, int64_t keep) {
  if (size <= size_) return;
  int64_t room = size_ == 0 ? size : std::max(size, 2 * size_);
  T* next = static_cast<T*>(borrow(static_cast<size_t>(room) * sizeof(T)));
  if (keep > 0) std::memcpy(next, data_, static_cast<size_t>(keep) * sizeof(T));
  clear();
  data_ = next;
  size_ = room;
}

template class Buffer<float>;
template class Buffer<double>;
template class Buffer<int64_t>;

}  // namespace rg
