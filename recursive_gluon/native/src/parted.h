// The execution of a forest part by part: forward keeps rows at the cuts alone, backward computes each part again.
#pragma once

#include "execute.h"
#include "parts.h"

namespace rg {

// `plan` is that of the whole forest, which `parts` cuts; its program is kept for a gradient.
std::unique_ptr<Execution> make_parted(const Plan& plan, Parts parts, int64_t max_depth);

}  // namespace rg
