// One step of an optimizer for all parameters; the arithmetic of MXNet 1.9.1's operators.
#pragma once

#include <cstdint>

namespace rg {

// kSgd is multi_sgd_update, kSgdAlone sgd_update, which rounds otherwise.
enum class Optimizer : int32_t { kSgd = 0, kMomentum = 1, kAdam = 2, kAdaGrad = 3, kSgdAlone = 4, kCount = 5 };

// Numbers that hold for one parameter and step.
struct Rates {
  float lr, wd, rescale, clip;  // clip below 0: none
  float a, b, epsilon;          // momentum, or Adam's beta1 and beta2
};

// n elements of a weight, its gradient, its states.
using UpdateKernel = void (*)(Optimizer, const Rates&, int64_t n, float* weight, const float* grad, float* first,
                              float* second);
UpdateKernel update_kernel();  // of the best instruction set of this machine

}  // namespace rg
