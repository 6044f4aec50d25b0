// The plan of a run: batches (a segment at a level), the rows that they read and write, who reads each row. The same
// method as schedule/plan.py and runtime/readers.py.
#pragma once

#include "frames.h"

namespace rg {

struct Batch {
  int32_t segment = 0;
  int64_t start = 0, stop = 0;          // rows in the segment's own order
  int64_t level = 0;
  std::vector<int64_t> out_start;       // by layout of the segment
  std::vector<int32_t> after;           // batches that wait for this one, of later rounds too
  int32_t waits = 0;                    // how many batches of its own round this one waits for
  int32_t round = 0;
  int32_t shard = 0;                    // see Plan::shards
};

// What a slot reads, a row each; for sums index[start[i]] ... index[start[i + 1]].
struct SlotRows {
  Ids index, start;
};

// Who reads the rows of a port or field, of which `size` is known once the plan is finished: row i is given back as given[start[i]] ... given[start[i + 1]].
struct Readers {
  int64_t size = 1;  // rows of gradients; row 0 stands for none
  Ids start, given;
};

// Rows that come from outside of the run: an argument of the roots, or an output of a part's given nodes.
struct Outside {
  int32_t port;
  int64_t first, rows;
};

class Plan {
 public:
  Plan(const Program& program, const Forest& forest, const std::vector<int64_t>& ints, int64_t max_depth,
       bool nodes, int64_t max_nodes);
  // Of a part. `keep`: for its gradient.
  Plan(const Program& program, const Forest& forest, const Part& part, int64_t max_depth, bool keep);

  // One round: what the pending decisions need, or, when there are none, all that is left. False after the last.
  bool next_round();
  bool finished() const { return finished_; }
  bool grows() const { return max_nodes_ > 0; }
  // The pending decisions that can be settled: (block, entries); their rows in the port of the block's test.
  std::vector<Frames::Waiting> decisions();
  int64_t row(int32_t layout, int64_t unit) const { return unit_row[layout][unit]; }
  void settle(const Frames::Waiting& decision, const std::vector<uint8_t>& truths) {
    frames.decide(decision.block, decision.entries, truths);
  }

  // After the last round.
  Ids output_rows(int32_t output) const;     // of the root function; row 0 where there is none
  int64_t returned_rows() const {
    return max_nodes_ > 0 ? forest.trees * max_nodes_ : static_cast<int64_t>(returned.size());
  }
  void make_readers(const std::vector<const void*>& ograds);  // of each output of the root; null: it has no gradient

  bool keeps() const { return keep_; }       // for a gradient: no row is used again
  const Program& program;
  const Forest& forest;
  Frames frames;
  Ids roots;                                 // frames of the roots
  Ids returned;                              // frames of the root function whose values are returned
  std::vector<Outside> outside;
  Ids counts;                                // frames of each tree, for max_nodes
  std::vector<Batch> batches;
  int32_t rounds = 0;
  // Trees are dealt out to shards, whose batches do not wait for one another: each is a worker's own, without a barrier
  // at every level. What waits for nothing and what comes last is one batch for all trees, of shard number `shards`
  // where there are several. How many there are depends on the structure alone.
  int32_t shards = 1;
  std::vector<int64_t> layout_size;          // rows of each layout
  std::vector<int64_t> layout_rows;          // the same, if no row were used again
  std::vector<std::vector<int32_t>> unit_row;  // by layout, unit
  std::vector<int64_t> segment_size;         // rows of each segment
  std::vector<std::vector<int64_t>> largest; // by segment, shard: rows of the largest batch
  std::vector<std::vector<SlotRows>> slots;  // by segment, slot (of those that are not the same as another)
  std::vector<Ids> segment_entries;          // by segment, row
  std::vector<Readers> port_readers, field_readers;
  std::vector<std::vector<int64_t>> given_base;  // by segment, slot
  std::vector<int64_t> output_base;          // by output of the root

 private:
  struct Edges {
    Ids source, destination;
  };
  void cover();
  template <class Visit>
  void each_source(int32_t segment, const Slot& slot, int64_t entry, Visit visit) const;
  Edges edges(const Ids& units) const;
  Ids ancestors(const Ids& goals, const Edges& e) const;
  struct Levels {
    Ids units, level;
    std::vector<int32_t> shard;
  };
  Levels levels(const Ids& units, const Edges& e);
  void deal(int64_t units, int64_t levels);
  int32_t shard_of(int64_t unit) const;
  void cut(const Levels& order);
  void connect(size_t first_batch, const Edges& e);
  void number(size_t first_batch, bool reuse);
  void fill(size_t first_batch);
  void want();
  void number_given();                       // where gradients of rows will lie: sizes and bases
  void grown(std::vector<int32_t>* tree, Ids* place) const;
  [[noreturn]] void endless(const Ids& stuck, const Edges& e) const;

  Plan(const Program& program, const Forest& forest, int64_t max_depth, bool nodes, int64_t max_nodes, const Part* part,
       bool keep);
  int64_t new_rows(int32_t layout, int64_t rows);  // the first of them
  void give(int32_t port, int64_t first, int64_t rows, int64_t first_unit);

  bool nodes_, finished_ = false;
  int64_t max_nodes_;
  const Part* part_;
  bool keep_;
  std::vector<uint8_t> done_;
  std::vector<int32_t> unit_batch_;
  std::vector<int32_t> tree_shard_;
  std::vector<std::vector<int32_t>> last_batch_;  // by segment, shard
  std::vector<Ids> batch_units_;             // of the batches of this round
  std::vector<Frames::Waiting> asked_;
};

}  // namespace rg
