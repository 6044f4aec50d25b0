// Kernels one at a time, for the tests.
#include <algorithm>
#include <vector>

#include "api.h"
#include "kernels.h"

using namespace rg;

namespace {

template <class T>
void one_op(int32_t op, const void* const* operands, double scalar, int64_t rows, int64_t cols, void* out) {
  EwProgram p;
  p.cols = static_cast<int32_t>(cols);
  std::vector<Source<T>> in;
  for (int32_t k = 0; k < 3 && operands[k] != nullptr; ++k) {
    p.inputs.push_back({k, false});
    in.push_back({static_cast<const T*>(operands[k]), cols, nullptr, nullptr});
  }
  p.code.push_back({static_cast<EwOp>(op), 0, 1, 2, scalar});
  p.outputs.push_back({static_cast<int32_t>(in.size()), 0});
  p.prepare();
  Target<T> to{static_cast<T*>(out), cols};
  std::vector<T> scratch(kScratch);
  kernels<T>().ew(p, in.data(), &to, rows, scratch.data());
}

}  // namespace

extern "C" {

// One element-wise operator on `rows` rows of `cols` columns; `operands` ends with null.
RG_API int rg_test_ew(int32_t op, int32_t bytes, const void* const* operands, double scalar, int64_t rows, int64_t cols,
                      void* out) {
  return guarded([&] {
    check(op >= 0 && op < static_cast<int32_t>(EwOp::kCount), Kind::kProgram, "an operator");
    if (bytes == 8) one_op<double>(op, operands, scalar, rows, cols, out);
    else one_op<float>(op, operands, scalar, rows, cols, out);
  });
}

// Rows chosen by `index` and summed by `start` (either may be null) through copy: what loads do.
// 0 where there is no such kernel here.
RG_API int rg_test_small_product(const float* x, const float* w, int64_t m, int64_t n, int64_t k, float* y) {
  auto kernel = kernels<float>().small_product;
  if (kernel == nullptr) return 0;
  kernel(x, k, w, m, n, k, y, n);
  return 1;
}

RG_API int rg_test_load(const float* base, int64_t stride, const int64_t* index, const int64_t* start, int64_t rows,
                        int64_t cols, float* out) {
  return guarded([&] {
    EwProgram p;
    p.cols = static_cast<int32_t>(cols);
    p.inputs.push_back({0, false});
    p.outputs.push_back({0, 0});
    p.prepare();
    Source<float> in{base, stride, index, start};
    Target<float> to{out, cols};
    std::vector<float> scratch(kScratch);
    kernels<float>().ew(p, &in, &to, rows, scratch.data());
  });
}

// Offsets for arrays of four numbers each, as in Life; returns the size of the block.
RG_API int64_t rg_test_lay_out(int64_t count, const int64_t* lives, int64_t turn, int64_t align, int64_t* offsets) {
  std::vector<Life> list;
  for (const int64_t* l = lives; l < lives + 4 * count; l += 4) list.push_back({l[0], l[1], l[2], static_cast<int32_t>(l[3])});
  Arena arena = lay_out(list, turn, align);
  std::copy(arena.offset.begin(), arena.offset.end(), offsets);
  return arena.size;
}

}  // extern "C"
