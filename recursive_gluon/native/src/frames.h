// Frames: every call of a function on a node, for all trees, before any arithmetic; and the units (a segment on a
// frame) that they make. The same method as schedule/frames.py, which the tests compare it with.
#pragma once

#include <unordered_map>
#include <vector>

#include "program.h"
#include "structure.h"

namespace rg {

// A forest's structure, and its fields in host memory of the caller.
struct FieldView {
  const void* data = nullptr;
  int32_t type = 0;  // 0 float32, 1 float64, 2 int32, 3 int64, 4 uint8, 5 int8
  static constexpr int64_t kBytes[] = {4, 8, 4, 8, 1, 1};
  int64_t rows = 0, cols = 0;
  const void* device = nullptr;  // the same in the memory of the lanes that run on it, if it is there
  double at(int64_t i) const;
  bool floating() const { return type < 2; }
  FieldView from(int64_t row, int64_t count) const {
    auto shifted = [&](const void* to) {
      return to == nullptr ? nullptr : static_cast<const char*>(to) + row * cols * kBytes[type];
    };
    return {shifted(data), type, count, cols, shifted(device)};
  }
};
struct Forest {
  std::shared_ptr<const Structure> structure;
  int64_t trees = 0, nodes = 0, edges = 0;
  const int32_t *tree_offsets = nullptr, *roots = nullptr, *child_offsets = nullptr, *children = nullptr;
  const uint8_t* leaf = nullptr;
  std::vector<FieldView> fields;
  int64_t first_tree = 0;        // of a larger forest: draws are numbered by its trees
  Forest() = default;
  explicit Forest(std::shared_ptr<const Structure> of);
  // Trees first ... last of another, whose fields stay where they are.
  Forest(const Forest& whole, int64_t first, int64_t last);
  void check(const Program& program) const;  // throws Error kArity where fields do not fit
};

// What went wrong, for a message that Python writes: the call path, innermost call first, and what the kind needs.
struct Fault : Error {
  std::vector<int64_t> detail;  // function, then what the kind needs
  std::vector<int64_t> sites;
  Fault(Kind kind, const std::string& what, std::vector<int64_t> detail, std::vector<int64_t> sites)
      : Error(kind, what), detail(std::move(detail)), sites(std::move(sites)) {}
};

using Ids = std::vector<int64_t>;

// Room for the first elements at once: a plan has many lists, and most are short.
template <class T>
void start_list(std::vector<T>& list) {
  if (list.capacity() == 0) list.reserve(64);
}

// A part of a forest, for a plan of its own: frames of the root function on nodes (see parts.h). Rows in what is kept
// between parts are given beside them.
struct Part {
  std::vector<int32_t> starts;               // nodes that are called
  std::vector<int32_t> given;                // nodes below whose outputs come from outside: nothing runs for them
  std::vector<int32_t> asked, kept;          // nodes whose outputs the caller asked for; that other parts read
  Ids given_row, asked_row, kept_row;
  std::vector<int32_t> outputs;              // of the root function: those that calls read
  int64_t frames = 0;
};

struct FrameTable {
  std::vector<int32_t> node, tree, depth, site;
  Ids caller;
  std::vector<int64_t> ints;                // num_ints a frame
  std::vector<uint64_t> key;
  std::vector<std::vector<int64_t>> arg_unit, out_unit;
  std::vector<int32_t> by_node;             // shared frames without integers
  std::unordered_map<uint64_t, int64_t> by_key;
  Ids next_same;                            // frames with the same 64-bit key
  int64_t size() const { return static_cast<int64_t>(node.size()); }
};

struct Number {
  bool real;
  int64_t i;
  double f;
  double value() const { return real ? f : static_cast<double>(i); }
};

class Frames {
 public:
  Frames(const Program& program, const Forest& forest, int64_t max_depth);

  // Frames of the roots; tensor arguments are the first units, a row a tree each. Returns the frames.
  Ids start(const std::vector<int64_t>& ints);
  // Frames of a part. The first units are outputs that are given, a row a given node each.
  Ids start(const Part& part);
  // Goes on with frames that waited for a value.
  void decide(int32_t block, const Ids& entries, const std::vector<uint8_t>& answers);

  struct Waiting {
    int32_t block;
    Ids entries;
  };

  std::vector<FrameTable> tables;                   // by function
  std::vector<Ids> block_frames, parent_entry;      // by block, entry
  std::vector<Ids> callee, callee_count;            // by site, entry
  std::vector<Ids> segment_units;                   // by segment, entry
  std::vector<int32_t> unit_segment;                // -1 - a: argument a of the roots, output a of given nodes
  Ids unit_entry;
  std::vector<Waiting> waiting;                     // stopped at a decision on a tensor

  int64_t entry_in(int32_t block, int32_t inner, int64_t entry) const {
    while (inner != block) {
      entry = parent_entry[inner][entry];
      inner = program_.blocks[inner].parent;
    }
    return entry;
  }
  int64_t unit_of(int32_t segment, int32_t block, int64_t entry) const {
    return segment_units[segment][entry_in(program_.segments[segment].block, block, entry)];
  }
  Number evaluate(const Expr& expr, int32_t function, int64_t frame) const;
  int64_t node_of(const Expr& expr, int32_t function, int64_t frame) const;  // of a field: refuses empty slots
  std::vector<int64_t> path(int32_t function, int64_t frame) const;

 private:
  struct Pending {
    Ids frames, parents;
  };
  struct Calls {  // calls that are about to become frames
    std::vector<int32_t> node, tree, depth;
    std::vector<int64_t> ints, caller;
    std::vector<uint64_t> caller_key;
    std::vector<std::vector<int64_t>> args;
    void clear(size_t num_args);
    void root(int32_t at, int32_t of_tree);  // a call from outside
  };

  void grow();
  void enter(int32_t block, const Ids& frames, const Ids& parents);
  void call(int32_t site, const Ids& frames, int64_t first_entry);
  Ids make(int32_t function, const Calls& calls, int32_t site, bool own);
  int64_t find(FrameTable& table, int32_t node, const int64_t* ints, int32_t num_ints, bool* is_new);
  void split(int32_t block, const Ids& frames, const Ids& entries, const std::vector<int64_t>& answers);
  uint64_t key(int32_t function, int32_t node, int32_t tree, const int64_t* ints, int32_t site, bool root,
               uint64_t caller_key, bool shared) const;
  void push(int32_t block, int64_t frame, int64_t parent);

  const Program& program_;
  const Forest& forest_;
  int64_t max_depth_;
  std::vector<Pending> pending_;
  std::vector<int32_t> order_;
  // Kept from use to use, because they are needed at every level:
  Pending now_;
  Calls calls_;
  Ids entries_;
  std::vector<int64_t> answers_;
};

uint64_t mix(uint64_t a, uint64_t b);  // as schedule/keys.py

}  // namespace rg
