// The arrays that a run needs for its rows: how large they are and when they are used. explain() and runs ask here.
#pragma once

#include "arena.h"
#include "plan.h"

namespace rg {

enum class What : int32_t { kPort, kSaved, kTemp, kMade, kGivenPort, kGivenField };
struct Array {
  What what;
  int32_t id, segment = -1, shard = -1;        // the number of a port, field, slot or buffer of the segment
  Life life;
  const std::vector<int32_t>* users = nullptr;  // segments that use it at the begin and end of its life
};

// Of the rounds so far. `recompute`: each batch runs forward again before its gradient, and keeps rows until then only.
std::vector<Array> arrays_of(const Plan& plan, bool recompute);

// One block for the arrays of a finished plan of one round.
Arena arena_of(const Plan& plan, const std::vector<Array>& arrays, int64_t align);
// Makes the plan's batches wait where they use a place that others used before.
void take_turns(Plan& plan, const std::vector<Array>& arrays, const Arena& arena);

// What a run's arrays take: in one block, each by itself, and so if no row were used again.
struct Footprint {
  int64_t block = 0, apart = 0, without_reuse = 0;
};
Footprint footprint(const Plan& plan, bool recompute, int64_t align);

void find_uses(Program& program);  // what arrays_of() reads of a program; called once it is decoded

}  // namespace rg
