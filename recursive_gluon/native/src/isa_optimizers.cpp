// Update loops, compiled once per instruction set.
#include <cmath>

#include "optimizers.h"

namespace rg {
namespace RG_ISA_NAME {
namespace {

inline float clipped(float g, float bound) {
  g = g > bound ? bound : g;
  return g < -bound ? -bound : g;
}

#define RG_EACH _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

void update(Optimizer kind, const Rates& r, int64_t n, float* weight, const float* grad, float* first, float* second) {
  const float lr = r.lr, wd = r.wd, rescale = r.rescale, clip = r.clip < 0 ? INFINITY : r.clip, a = r.a, b = r.b, epsilon = r.epsilon;
  switch (kind) {
    case Optimizer::kSgd:
      RG_EACH {
        float mom = -lr * wd * weight[i] - lr * clipped(rescale * grad[i], clip);
        weight[i] += mom;
      }
      break;
    case Optimizer::kMomentum:
      RG_EACH {
        first[i] = a * first[i] - lr * wd * weight[i] - lr * clipped(rescale * grad[i], clip);
        weight[i] += first[i];
      }
      break;
    case Optimizer::kAdam:
      RG_EACH {
        float g = clipped(grad[i] * rescale + weight[i] * wd, clip);
        first[i] = a * first[i] + (1.0f - a) * g;
        second[i] = b * second[i] + (1.0f - b) * g * g;
        weight[i] -= lr * first[i] / (std::sqrt(second[i]) + epsilon);
      }
      break;
    case Optimizer::kAdaGrad:
      RG_EACH {
        float g = clipped(grad[i] * rescale, clip);
        first[i] += g * g;
        weight[i] += (g / std::sqrt(first[i] + epsilon) + weight[i] * wd) * -lr;
      }
      break;
  }
}

}  // namespace

extern const UpdateKernel kUpdate = update;

}  // namespace RG_ISA_NAME
}  // namespace rg
