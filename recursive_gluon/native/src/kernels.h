// The kernel set: what runs over rows. Compiled once per instruction set, chosen at run time.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace rg {

// Rows that a kernel reads. Row r is `base + (index ? index[r] : r) * stride`; with `start`, it is the sum of the rows
// index[start[r]], ..., index[start[r + 1] - 1] in that order (zero where there are none).
template <class T>
struct Source {
  const T* base = nullptr;
  int64_t stride = 0;  // elements from row to row; 0: one row that stands for all (a bias)
  const int64_t* index = nullptr;
  const int64_t* start = nullptr;
};

template <class T>
struct Target {
  T* base = nullptr;
  int64_t stride = 0;
};

// Element-wise operators: name, number of operands (a, b, c), formula. `s` is the instruction's scalar.
enum class EwOp : int32_t {
#define RG_EW(name, operands) name,
#include "ew_ops.def"
#undef RG_EW
  kCount
};

// Values are numbered: inputs first, then the results of the instructions in order.
struct EwInput {
  int32_t source;
  bool cell;  // the source has one column, which stands for all
};
struct EwInstr {
  EwOp op;
  int32_t a, b, c;
  double scalar;
};
struct EwOutput {
  int32_t value, target;
};

// A fused element-wise program: every value has `cols` columns.
struct EwProgram {
  int32_t cols = 0;
  std::vector<EwInput> inputs;
  std::vector<EwInstr> code;
  std::vector<EwOutput> outputs;
  std::vector<uint8_t> apart;   // of each target: no source lies in the same memory; empty: all
  // filled by prepare():
  std::vector<int32_t> buffer;  // of each value: its scratch buffer, reused after the last use
  std::vector<int32_t> direct;  // of each value: a target that it may be computed in, or -1
  int32_t buffers = 0;
  void prepare();  // checks value numbers (throws Error kProgram) and assigns memory
};

enum class Reduction : int32_t { kSum, kMean, kMax, kMin, kProd, kNorm2, kNorm1, kNanSum, kNanProd };
enum class Soft : int32_t { kSoftmax, kLogSoftmax, kSoftmin };

// Elements of scratch memory that a kernel may use (per thread).
constexpr int64_t kScratch = 16 * 1024;

template <class T>
struct Kernels {
  // Rows 0..rows of all sources and targets.
  void (*ew)(const EwProgram&, const Source<T>* sources, const Target<T>* targets, int64_t rows, T* scratch);
  // out[c] = map[c] < 0 ? 0 : in[map[c]]
  void (*map)(const Source<T>& in, const int32_t* map, int64_t cols, const Target<T>& out, int64_t rows, T* scratch);
  // in has groups * length columns, out has `groups`
  void (*reduce)(Reduction, const Source<T>& in, int64_t groups, int64_t length, const Target<T>& out, int64_t rows,
                 T* scratch);
  // over each group of `length` columns; temperature divides the input
  void (*soft)(Soft, double temperature, const Source<T>& in, int64_t groups, int64_t length, const Target<T>& out,
               int64_t rows, T* scratch);
  // a matrix product a row: out (m x n) = op(a) op(b), op(a) is m x k, op(b) is k x n
  void (*bdot)(const Source<T>& a, bool turn_a, const Source<T>& b, bool turn_b, int64_t m, int64_t n, int64_t k,
               const Target<T>& out, int64_t rows, T* scratch);
  // out[g] = in[g * length + index[g]]; one_hot: out[g * length + index[g]] = on, else off; index is clamped, or
  // wrapped
  void (*pick)(const Source<T>& in, const Source<T>& index, bool wrap, int64_t groups, int64_t length,
               const Target<T>& out, int64_t rows, T* scratch);
  void (*one_hot)(const Source<T>& index, double on, double off, int64_t groups, int64_t length, const Target<T>& out,
                  int64_t rows, T* scratch);
  // total[c] += sum over rows in[r][c]
  void (*column_sums)(const T* in, int64_t stride, int64_t rows, int64_t cols, T* total);
  // columns first ... last of in (rows x cols) become rows of out (cols x rows)
  void (*transpose)(const T* in, int64_t rows, int64_t cols, int64_t first, int64_t last, T* out);
};

template <class T>
const Kernels<T>& kernels();  // float and double; of the best instruction set of this machine

enum class Isa : int32_t { kBaseline, kAvx2, kAvx512 };
Isa best_isa();               // what the machine has, at most what RG_ISA in the environment allows
const char* isa_name(Isa);

}  // namespace rg
