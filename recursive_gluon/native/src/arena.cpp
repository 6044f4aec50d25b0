#include "arena.h"

#include <algorithm>
#include <numeric>

namespace rg {

bool may_share(const Life& a, const Life& b, int64_t turn) {
  const Life &first = a.begin <= b.begin ? a : b, &then = a.begin <= b.begin ? b : a;
  if (first.end >= then.begin) return false;
  if (first.end <= turn && turn <= then.begin) return true;
  return a.shard == Life::kCommon || b.shard == Life::kCommon || (a.shard == b.shard && a.shard != Life::kSeveral);
}

// Greedy by size: the largest first, each into the smallest gap that is large enough between those that it may not share a
// place with (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020). What is not among the
// largest has little to give and gets a place of its own, so that this takes no time to speak of.
Arena lay_out(const std::vector<Life>& lives, int64_t turn, int64_t align) {
  constexpr size_t kLargest = 64;
  auto rounded = [&](int32_t i) { return (lives[i].size + align - 1) / align * align; };
  Arena made;
  made.offset.resize(lives.size());
  std::vector<int32_t> order(lives.size()), placed;  // placed: by offset
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return lives[a].size != lives[b].size ? lives[a].size > lives[b].size : a < b;
  });
  placed.reserve(std::min(order.size(), kLargest));
  for (size_t n = 0; n < order.size(); ++n) {
    int32_t i = order[n];
    int64_t size = rounded(i), at = made.size;
    if (n < kLargest) {
      int64_t taken = 0, smallest = INT64_MAX;
      for (int32_t other : placed) {
        if (may_share(lives[i], lives[other], turn)) continue;
        int64_t gap = made.offset[other] - taken;
        if (gap >= size && gap < smallest) {
          smallest = gap;
          at = taken;
        }
        taken = std::max(taken, made.offset[other] + rounded(other));
      }
      if (smallest == INT64_MAX) at = taken;
      placed.insert(std::upper_bound(placed.begin(), placed.end(), at,
                                     [&](int64_t offset, int32_t other) { return offset < made.offset[other]; }), i);
    }
    made.offset[i] = at;
    made.size = std::max(made.size, at + size);
  }
  return made;
}

}  // namespace rg
