#include "structure.h"

namespace rg {

Structure::Structure(int64_t trees, int64_t nodes, int64_t edges) : trees(trees), nodes(nodes), edges(edges) {
  constexpr int64_t kMost = int64_t(1) << 31;
  rg::check(trees >= 0 && nodes >= 0 && edges >= 0 && trees < kMost && nodes < kMost && edges < kMost, Kind::kArity,
            "the sizes of the forest");
  words.resize(static_cast<size_t>(trees + 1 + trees + nodes + 1 + edges));
  tree_offsets = words.data();
  roots = tree_offsets + trees + 1;
  child_offsets = roots + trees;
  children = child_offsets + nodes + 1;
}

void Structure::check() {
  auto want = [](bool ok) { rg::check(ok, Kind::kArity, "the arrays of the forest contradict one another"); };
  want(tree_offsets[0] == 0 && tree_offsets[trees] == nodes && child_offsets[0] == 0 && child_offsets[nodes] == edges);
  for (int64_t t = 0; t < trees; ++t) {
    want(tree_offsets[t] <= tree_offsets[t + 1]);
    want(roots[t] >= tree_offsets[t] && roots[t] < tree_offsets[t + 1]);
  }
  leaf.resize(static_cast<size_t>(nodes));
  for (int64_t n = 0; n < nodes; ++n) {
    int32_t low = child_offsets[n], high = child_offsets[n + 1];
    want(low <= high && high <= edges);
    uint8_t empty = 1;
    for (int32_t e = low; e < high; ++e) {
      want(children[e] >= -1 && children[e] < n);  // children come first: no cycles
      empty &= children[e] < 0;
    }
    leaf[n] = empty;
  }
}

}  // namespace rg
