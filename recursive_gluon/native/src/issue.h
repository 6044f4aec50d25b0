// Handing a plan of lanes to a backend.
#pragma once

#include "backend.h"
#include "lanes.h"

namespace rg {

// `launch(chain, lane)` gives a chain's launches to a lane. Returns when all is handed over, not when it has run.
template <class LaunchChain>
void issue(const LanePlan& plan, Backend& backend, LaunchChain launch) {
  backend.events(plan.events);
  std::vector<size_t> next(plan.lanes.size(), 0);
  for (int32_t lane : plan.issue) {
    const LaneOp& op = plan.lanes[lane][next[lane]++];
    switch (op.step) {
      case LaneStep::kLaunch: launch(op.id, lane); break;
      case LaneStep::kRecord: backend.record(lane, op.id); break;
      case LaneStep::kWait: backend.wait(lane, op.id); break;
    }
  }
}

}  // namespace rg
