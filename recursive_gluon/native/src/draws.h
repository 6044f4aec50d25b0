// Random numbers as a function of (call seed, frame key, stream, position), as runtime/draws.py makes them.
#pragma once

#include <cmath>
#include <cstdint>

#include "frames.h"

namespace rg {

// kind 0: 0 or 1 / (1 - x) with probability x of 0; 1: uniform in [x, y); 2: normal with mean x and deviation y.
template <class T>
void draw(int32_t kind, double x, double y, uint64_t stream, uint64_t seed, uint64_t key, int64_t n, T* to) {
  uint64_t base = mix(mix(key, seed), stream + 1);
  auto uniform = [&](int64_t i) {
    return static_cast<double>(mix(base, static_cast<uint64_t>(i)) >> 11) * (1.0 / 9007199254740992.0);
  };
  for (int64_t i = 0; i < n; ++i) {
    double u = uniform(i);
    if (kind == 0) to[i] = static_cast<T>((u >= x ? 1.0 : 0.0) / (1.0 - x));
    else if (kind == 1) to[i] = static_cast<T>(x + (y - x) * u);
    else to[i] = static_cast<T>(x + y * (std::sqrt(-2.0 * std::log1p(-u)) * std::cos(2.0 * M_PI * uniform(n + i))));
  }
}

}  // namespace rg
