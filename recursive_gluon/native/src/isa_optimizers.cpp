// Update loops, compiled once per instruction set. The order of operations is MXNet's, for the same roundings.
#include <cmath>

#include "optimizers.h"

namespace rg {
namespace RG_ISA_NAME {
namespace {

template <bool kClip>
inline float clipped(float g, float bound) {
  if (!kClip) return g;
  g = g > bound ? bound : g;
  return g < -bound ? -bound : g;
}

// What SGD subtracts for a gradient.
template <bool kClip>
inline float slope(float g, const float lr, const float rescale, const float bound) {
  return kClip ? lr * clipped<kClip>(rescale * g, bound) : lr * rescale * g;
}

#define RG_EACH _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

template <bool kClip>
void apply(Optimizer kind, const Rates& r, int64_t n, float* weight, const float* grad, float* first, float* second) {
  const float lr = r.lr, wd = r.wd, rescale = r.rescale, clip = r.clip, a = r.a, b = r.b, epsilon = r.epsilon;
  switch (kind) {
    case Optimizer::kSgd:
      RG_EACH { weight[i] = weight[i] + (0.0f - lr * wd * weight[i] - slope<kClip>(grad[i], lr, rescale, clip)); }
      break;
    case Optimizer::kSgdAlone:
      RG_EACH { weight[i] = (1.0f - lr * wd) * weight[i] - slope<kClip>(grad[i], lr, rescale, clip); }
      break;
    case Optimizer::kMomentum:
      RG_EACH {
        first[i] = a * first[i] - lr * wd * weight[i] - slope<kClip>(grad[i], lr, rescale, clip);
        weight[i] = weight[i] + first[i];
      }
      break;
    case Optimizer::kAdam:
      RG_EACH {
        float g = clipped<kClip>(grad[i] * rescale + weight[i] * wd, clip);
        first[i] = a * first[i] + (1.0f - a) * g;
        second[i] = b * second[i] + (1.0f - b) * g * g;
        weight[i] = weight[i] - lr * first[i] / (std::sqrt(second[i]) + epsilon);
      }
      break;
    case Optimizer::kAdaGrad:
      RG_EACH {
        float g = clipped<kClip>(grad[i] * rescale, clip);
        first[i] = first[i] + g * g;
        weight[i] = weight[i] + (g / std::sqrt(first[i] + epsilon) + weight[i] * wd) * -lr;
      }
      break;
    case Optimizer::kCount: break;
  }
}

void update(Optimizer kind, const Rates& r, int64_t n, float* weight, const float* grad, float* first, float* second) {
  (r.clip >= 0 ? apply<true> : apply<false>)(kind, r, n, weight, grad, first, second);
}

}  // namespace

extern const UpdateKernel kUpdate = update;

}  // namespace RG_ISA_NAME
}  // namespace rg
