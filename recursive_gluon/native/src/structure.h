// The structure of a forest in memory of its own: what the caller does with its arrays later does not alter a plan.
#pragma once

#include <memory>
#include <vector>

#include "common.h"

namespace rg {

struct Structure {
  Structure(int64_t trees, int64_t nodes, int64_t edges);

  int64_t trees, nodes, edges;
  std::vector<int32_t> words;        // the four arrays one after another, as structure.py packs them
  int32_t *tree_offsets, *roots, *child_offsets, *children;
  std::vector<uint8_t> leaf;         // of each node: whether it has no child; filled by check()
  // Throws Error kArity where the arrays contradict one another.
  void check();
};

}  // namespace rg
