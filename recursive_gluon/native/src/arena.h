// Places in one block for arrays that live for a while each: arrays that never live at once may lie in the same place.
#pragma once

#include <cstdint>
#include <vector>

namespace rg {

// When an array is used: steps `begin` ... `end` of a run, those of its shard, or of none or several.
struct Life {
  static constexpr int32_t kCommon = -1, kSeveral = -2;
  int64_t size = 0;
  int64_t begin = 0, end = 0;
  int32_t shard = kCommon;
};

struct Arena {
  std::vector<int64_t> offset;  // of each array
  int64_t size = 0;
};

// Shards do not wait for one another, but all of them wait at the step `turn`. Two arrays apart in time may share a place
// if that step lies between them, if one of them is common to all shards, or both are of one shard.
bool may_share(const Life& a, const Life& b, int64_t turn);

// Offsets are multiples of `align`.
Arena lay_out(const std::vector<Life>& lives, int64_t turn, int64_t align);

}  // namespace rg
