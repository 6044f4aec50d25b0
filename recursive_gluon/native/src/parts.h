// Where a forest is cut into parts that are computed one after another: each small enough to keep all that its gradient
// needs, with nothing but rows at the cuts kept between them.
#pragma once

#include <string>
#include <vector>

#include "frames.h"

namespace rg {

class Plan;

struct Parts {
  std::vector<Part> parts;   // a part after those whose rows it reads
  int64_t rows = 0;          // that are kept between parts: one for each node at a cut that others read
  int64_t largest = 0;       // frames of the largest part
  std::string whole;         // why the forest is not cut; empty where it is
};

// Cuts a finished plan of a whole forest into parts of at most `most` frames, where single frames allow it.
Parts cut_forest(const Plan& plan, int64_t most);

}  // namespace rg
