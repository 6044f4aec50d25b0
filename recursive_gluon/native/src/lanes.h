// The plan of lanes and events: which lane runs which chain, in which order, and where lanes wait for one another. A
// lane is a queue that runs what it is given in order (a CUDA stream, a thread with a queue); an event is a mark in one
// lane that another may wait for. Made and tested without a device.
#pragma once

#include <cstdint>
#include <vector>

namespace rg {

enum class LaneStep : int32_t { kLaunch, kRecord, kWait };
struct LaneOp {
  LaneStep step;
  int32_t id;  // kLaunch: the chain; else the event
};

struct LanePlan {
  std::vector<std::vector<LaneOp>> lanes;  // what each lane does, in order
  // Whose next operation a host hands over next. In this order chains come after those that they wait for, and a
  // record before its waits, which is what the backends ask for (backend.h).
  std::vector<int32_t> issue;
  int32_t events = 0;
  std::vector<double> lane_cost;  // of each lane: the cost of its chains
  double critical_path = 0;       // the cost of the dearest path: no number of lanes is faster
  double makespan = 0;            // when the last chain would end, were the costs times: <= sum / lanes + critical_path
};

// `after[c]` are the chains that wait for chain c, `cost[c]` (1 each where it is empty) what it takes. List scheduling
// (Graham 1966): whenever a lane is free, the ready chain with the longest remaining path goes there, ties by number. A
// chain goes behind the predecessor that ends last, if nothing is behind that yet, and else to the lane that has been
// free for longest. Events only where neither the order of a lane nor earlier waits imply a dependency; at most one
// record a chain. Throws Error kProgram for chains that wait in a circle and for numbers that are out of range.
LanePlan plan_lanes(const std::vector<std::vector<int32_t>>& after, const std::vector<double>& cost, int32_t lanes);

}  // namespace rg
