// Instructions: where their operands lie, how they are cut into tiles, how a tile runs.
#pragma once

#include <algorithm>

#include "blas.h"
#include "typed.h"

namespace rg {

constexpr double kTileWork = 2e5;        // element-wise operations of a tile: some 30 us
// Microseconds of one core from which helpers pay (see workers_for): of a batch on average, of a run, of a run whose
// helpers have shards of their own.
constexpr double kLongSteps = 6, kAlone = 60, kShared = 40;
constexpr int64_t kTransposeFrom = 128;  // so many rows pay for a transposed copy of their matrix

// How a matrix product is cut: by its shape alone. `beside`: other shards keep the other workers busy, so that only a
// large one is cut; else a matrix of some size is shared, for each worker's cache to hold a part of it.
struct Cut {
  int64_t rows, cols, down, across;  // of a tile; how many tiles
};
inline Cut cut_product(int64_t m, int64_t n, int64_t k, bool beside) {
  Cut c;
  double matrix = static_cast<double>(n) * static_cast<double>(k), work = matrix * static_cast<double>(m);
  c.rows = m > 96 ? 64 : std::max<int64_t>(m, 1);
  double parts = beside ? work / 8e6 : std::max(matrix / 1e5, work / 2.4e6);
  int64_t across = std::clamp<int64_t>(static_cast<int64_t>(parts), 1, m > 96 ? 2 : 4);
  c.cols = (n + across - 1) / across;
  if (across > 1) c.cols = (c.cols + 15) / 16 * 16;
  c.down = (m + c.rows - 1) / c.rows;
  c.across = (n + c.cols - 1) / c.cols;
  return c;
}

// Where the kernel for few rows was faster than oneDNN (docs/design/0005).
inline bool is_small(int64_t m, int64_t n, int64_t k) { return m == 1 || (m <= 8 && (k >= 128 || n <= 64)); }

template <class T>
int64_t Typed<T>::tile_rows(const Instr& i) const {
  double work = 0;
  switch (i.code) {
    case Code::kEw:  // a copy waits for memory
      work = static_cast<double>(i.ew.cols) * static_cast<double>(std::max<size_t>(i.ew.code.size() + i.in.size(), 6));
      break;
    case Code::kBdot: work = static_cast<double>(i.n[0]) * static_cast<double>(i.n[1]) * static_cast<double>(i.n[2]); break;
    default: work = 4.0 * static_cast<double>(std::max(i.in[0].cols, i.out[0].cols));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(kTileWork / std::max(work, 1.0)));
}

template <class T>
int64_t Typed<T>::tiles(const Batch& b, const Instr& i) const {
  int64_t rows = b.stop - b.start;
  if (rows == 0) return 0;
  if (i.code == Code::kGemm) {
    Cut c = cut_product(rows * i.n[0], i.n[1], i.n[2], beside(b));
    return c.down * c.across;
  }
  if (i.code >= Code::kGemmRows) return tiles_of_sum(i);
  int64_t each = tile_rows(i);
  return (rows + each - 1) / each;
}

template <class T>
int64_t Typed<T>::tiles_of_sum(const Instr& i) {
  if (i.code == Code::kColumnSums) return (i.out[0].cols + 63) / 64;
  Cut c = cut_sums(i);
  return c.down * c.across;
}

template <class T>
Cut Typed<T>::cut_sums(const Instr& i) {
  Cut c;
  c.rows = std::min<int64_t>(i.n[1], 128);
  c.cols = std::min<int64_t>(i.n[2], 512);
  c.down = (i.n[1] + c.rows - 1) / c.rows;
  c.across = (i.n[2] + c.cols - 1) / c.cols;
  return c;
}

template <class T>
void Typed<T>::execute(const Batch& b, const Instr& i, int64_t rows, int64_t tile, int32_t worker) {
  if (i.code == Code::kGemm) return product(b, i, rows, tile);
  int64_t each = tile_rows(i), first = tile * each, n = std::min(each, rows - first);
  Source<T> in[64];
  Target<T> out[64];
  check(i.in.size() <= 64 && i.out.size() <= 64, Kind::kProgram, "an instruction has more than 64 operands");
  for (size_t a = 0; a < i.in.size(); ++a) in[a] = source(b, i.in[a], first);
  for (size_t a = 0; a < i.out.size(); ++a) out[a] = target(b, i.out[a], first);
  T* scratch = scratch_of(worker);
  const auto& z = i.n;
  switch (i.code) {
    case Code::kEw: k_.ew(i.ew, in, out, n, scratch); break;
    case Code::kMap: k_.map(in[0], i.map.data(), i.out[0].cols, out[0], n, scratch); break;
    case Code::kReduce: k_.reduce(static_cast<Reduction>(z[0]), in[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kSoft: k_.soft(static_cast<Soft>(z[0]), i.x[0], in[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kBdot: k_.bdot(in[0], z[3] != 0, in[1], z[4] != 0, z[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kPick: k_.pick(in[0], in[1], z[0] != 0, z[1], z[2], out[0], n, scratch); break;
    case Code::kOneHot: k_.one_hot(in[0], i.x[0], i.x[1], z[0], z[1], out[0], n, scratch); break;
    default: throw Error(Kind::kInternal, "an instruction for rows");
  }
}

template <class T>
void Typed<T>::product(const Batch& b, const Instr& i, int64_t rows, int64_t tile) {
  int64_t repeat = i.n[0], n = i.n[1], k = i.n[2];
  bool turned = i.n[3] != 0;
  Source<T> x = source(b, i.in[0], 0);
  Target<T> y = target(b, i.out[0], 0);
  int64_t m = rows * repeat, lda = repeat == 1 ? x.stride : k, ldc = repeat == 1 ? y.stride : n;
  if (x.stride == 0) lda = 0;
  Cut c = cut_product(m, n, k, beside(b));
  int64_t r = tile / c.across * c.rows, q = tile % c.across * c.cols;
  int64_t height = std::min(c.rows, m - r), width = std::min(c.cols, n - q);
  const T* w = shared_[i.in[1].id] + i.in[1].offset;
  if (turned) {
    auto copy = transposed_.find({i.in[1].id, i.in[1].offset});
    if (copy != transposed_.end()) {
      w = copy->second.data();
      turned = false;
    }
  }
  if (turned && k_.small_product != nullptr && is_small(height, width, k))
    return k_.small_product(x.base + r * lda, lda, w + q * k, height, width, k, y.base + r * ldc + q, ldc);
  gemm<T>(false, turned, height, width, k, x.base + r * lda, lda, turned ? w + q * k : w + q, turned ? k : n, T(0),
          y.base + r * ldc + q, ldc);
}

// Sums over rows `first` ... `first + rows` of a segment into the gradient of a shared value.
template <class T>
void Typed<T>::sum(int32_t s, const Instr& i, int64_t first, int64_t rows, int64_t tile, bool begin) {
  const Gradient& grad = grads_->shared[i.out[0].id];
  T* to = static_cast<T*>(grad.data) + i.out[0].offset;
  T beta = begin && grad.req != Req::kAdd ? T(0) : T(1);
  auto rows_at = [&](const Operand& o) { return saved_[s][o.id].data() + first * o.stride + o.offset; };
  if (i.code == Code::kGemmRows) {
    int64_t n = i.n[1], k = i.n[2], repeat = i.n[0];
    Cut c = cut_sums(i);
    int64_t r = tile / c.across * c.rows, q = tile % c.across * c.cols;
    gemm<T>(true, false, std::min(c.rows, n - r), std::min(c.cols, k - q), rows * repeat, rows_at(i.in[0]) + r,
            repeat == 1 ? i.in[0].stride : n, rows_at(i.in[1]) + q, repeat == 1 ? i.in[1].stride : k, beta,
            to + r * k + q, k);
    return;
  }
  int64_t cols = i.out[0].cols, q = tile * 64, width = std::min<int64_t>(64, cols - q), repeat = i.n[0];
  if (beta == T(0)) std::fill_n(to + q, width, T(0));
  k_.column_sums(rows_at(i.in[0]) + q, repeat == 1 ? i.in[0].stride : cols, rows * repeat, width, to + q);
}

}  // namespace rg
