// A run: one call of a program on one forest, from its plan to its gradient.
#pragma once

#include <memory>

#include "execute.h"

namespace rg {

struct Run {
  std::shared_ptr<const Program> program;
  Forest forest;
  std::unique_ptr<Plan> plan;  // none where the forest runs chunk by chunk
  std::unique_ptr<Execution> execution;
  std::string whole;  // why it is not cut into parts, where that was asked for
  int64_t parts = 0, largest_part = 0, chunks = 0;
};

}  // namespace rg
