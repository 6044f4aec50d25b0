// The plan of lanes for ctypes.
#include <algorithm>

#include "api.h"
#include "lanes.h"

using namespace rg;

extern "C" {

// Chain c is waited for by after[start[c]], ..., after[start[c + 1] - 1]; `cost` may be null. Null: see rg_error().
RG_API LanePlan* rg_lane_plan_new(int32_t chains, const int64_t* start, const int32_t* after, const double* cost,
                                  int32_t lanes) {
  LanePlan* made = nullptr;
  guarded([&] {
    std::vector<std::vector<int32_t>> lists(static_cast<size_t>(chains));
    for (int32_t c = 0; c < chains; ++c) lists[c].assign(after + start[c], after + start[c + 1]);
    std::vector<double> costs;
    if (cost != nullptr) costs.assign(cost, cost + chains);
    made = new LanePlan(plan_lanes(lists, costs, lanes));
  });
  return made;
}

RG_API void rg_lane_plan_free(LanePlan* plan) { delete plan; }

// The operations of a lane as pairs (step, id); `to` may be null. Returns how many there are.
RG_API int64_t rg_lane_plan_lane(const LanePlan* plan, int32_t lane, int32_t* to) {
  for (const LaneOp& op : plan->lanes[lane]) {
    if (to == nullptr) break;
    *to++ = static_cast<int32_t>(op.step);
    *to++ = op.id;
  }
  return static_cast<int64_t>(plan->lanes[lane].size());
}

// The lanes in the order in which their operations are handed over; one for each operation of the plan.
RG_API void rg_lane_plan_issue(const LanePlan* plan, int32_t* to) { std::copy(plan->issue.begin(), plan->issue.end(), to); }

RG_API int32_t rg_lane_plan_events(const LanePlan* plan) { return plan->events; }

// The critical path, the makespan, and the cost of each lane.
RG_API void rg_lane_plan_figures(const LanePlan* plan, double* to) {
  *to++ = plan->critical_path;
  *to++ = plan->makespan;
  std::copy(plan->lane_cost.begin(), plan->lane_cost.end(), to);
}

}  // extern "C"
