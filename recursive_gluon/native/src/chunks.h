// The execution of a large forest chunk by chunk of whole trees: a chunk's plan and rows fit into caches, and chunks run
// beside one another. For programs whose calls structure alone decides and keeps within a tree.
#pragma once

#include "execute.h"

namespace rg {

// What a plan is made from, beside program and forest.
struct PlanArgs {
  std::vector<int64_t> ints;
  int64_t max_depth;
  bool nodes;
};

// Trees first ... last, and where their nodes begin.
struct Chunk {
  int64_t first_tree, last_tree, first_node, last_node;
};
// By program and structure alone; empty where the forest is not cut.
std::vector<Chunk> cut_large(const Program& program, const Forest& forest);

// `forest` must outlive what is returned.
std::unique_ptr<Execution> make_chunked(const Program& program, const Forest& forest, const PlanArgs& args,
                                        std::vector<Chunk> chunks);

}  // namespace rg
