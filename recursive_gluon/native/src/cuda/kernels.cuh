// The kernels: one thread for each element, or for each row where an order of sums must hold. Each thread takes its
// operands by value, so that no reference makes the compiler copy them all into local memory.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "../kernels.h"

namespace rg {
namespace cuda {

static __device__ inline float fma_(float a, float b, float c) { return fmaf(a, b, c); }
static __device__ inline double fma_(double a, double b, double c) { return fma(a, b, c); }
static __device__ inline float exp_(float x) { return expf(x); }
static __device__ inline double exp_(double x) { return exp(x); }
static __device__ inline float tanh_(float x) { return tanhf(x); }
static __device__ inline double tanh_(double x) { return tanh(x); }
template <class T>
static __device__ inline T sigmoid_(T x) { return T(1) / (T(1) + exp_(-x)); }

#define RG_FUNCTION __device__ inline
#define RG_LOOP for (int64_t i = 0; i < n; ++i)
#include "../row_math.h"
#undef RG_LOOP
#undef RG_FUNCTION

static __device__ inline int64_t this_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// -- element-wise programs --------------------
struct EwLoad {
  int32_t source, buffer, cell;
};
template <class T>
struct EwStep {
  EwOp op;
  int32_t a, b, c, to;  // buffers; an operand that the operator has not is the first
  int32_t unused;       // no holes: programs are compared by their bytes
  T scalar;
};
struct EwStore {
  int32_t buffer, target;
};
template <class T>
struct EwCode {  // on the device
  const EwLoad* load;
  const EwStep<T>* step;
  const EwStore* store;
  int32_t loads, steps, stores;
};
template <class T>
struct EwOperands {
  Source<T> in[64];
  Target<T> out[64];
};

template <class T>
static __device__ inline T applied(EwOp op, T x, T y, T z, T s) {
  switch (op) {
#define RG_UNARY(name, formula) \
  case EwOp::name: return formula;
#define RG_BINARY(name, formula) \
  case EwOp::name: return formula;
#define RG_TERNARY(name, formula) \
  case EwOp::name: return formula;
#include "../ew_formulas.def"
#undef RG_UNARY
#undef RG_BINARY
#undef RG_TERNARY
    case EwOp::kCount: break;
  }
  return T(0);
}

// The program runs whole for one element, its values in `kBuffers` numbers of the thread's own.
template <class T, int kBuffers>
__global__ void ew_kernel(EwCode<T> code, EwOperands<T> operands, int64_t cols, int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / cols, c = i % cols;
  T values[kBuffers];
  values[0] = T(0);
  for (int32_t k = 0; k < code.loads; ++k) {
    EwLoad load = code.load[k];
    values[load.buffer] = element<T>(operands.in[load.source], r, load.cell != 0 ? 0 : c);
  }
  for (int32_t k = 0; k < code.steps; ++k) {
    EwStep<T> e = code.step[k];
    values[e.to] = applied<T>(e.op, values[e.a], values[e.b], values[e.c], e.scalar);
  }
  for (int32_t k = 0; k < code.stores; ++k) {
    EwStore store = code.store[k];
    Target<T> t = operands.out[store.target];
    t.base[r * t.stride + c] = values[store.buffer];
  }
}

// -- over rows --------------------
template <class T>
__global__ void map_kernel(Source<T> in, const int32_t* map, int64_t cols, Target<T> out, int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / cols, c = i % cols;
  out.base[r * out.stride + c] = map[c] < 0 ? T(0) : element<T>(in, r, map[c]);
}

template <class T>
__global__ void reduce_kernel(Reduction kind, Source<T> in, int64_t groups, int64_t length, Target<T> out,
                              int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / groups, g = i % groups;
  out.base[r * out.stride + g] = reduced<T>(kind, Elements<T>{in, r, g * length, 1}, length);
}

template <class T>
__global__ void soft_kernel(Soft kind, T heat, Source<T> in, int64_t groups, int64_t length, Target<T> out,
                            int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / groups, g = i % groups;
  T* o = out.base + r * out.stride + g * length;
  for (int64_t c = 0; c < length; ++c) o[c] = element<T>(in, r, g * length + c);
  soft_row(kind, heat, o, length);
}

template <class T>
__global__ void bdot_kernel(Source<T> a, bool turn_a, Source<T> b, bool turn_b, int64_t m, int64_t n, int64_t k,
                            Target<T> out, int64_t threads) {
  int64_t at = this_thread();
  if (at >= threads) return;
  int64_t r = at / (m * n), i = at / n % m, j = at % n;
  Elements<T> x{a, r, turn_a ? i : i * k, turn_a ? m : 1}, y{b, r, turn_b ? j * k : j, turn_b ? 1 : n};
  T total = T(0);
  if (!turn_a && (turn_b || n == 1)) {  // the orders of isa_kernels.cpp
    total = dot_of<T>(x, y, k);
  } else {
    for (int64_t l = 0; l < k; ++l) total = fma_(x[l], y[l], total);
  }
  out.base[r * out.stride + i * n + j] = total;
}

template <class T>
__global__ void pick_kernel(Source<T> in, Source<T> index, bool wrap, int64_t groups, int64_t length, Target<T> out,
                            int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / groups, g = i % groups;
  int64_t at = bounded(static_cast<double>(element<T>(index, r, g)), wrap, length);
  out.base[r * out.stride + g] = element<T>(in, r, g * length + at);
}

template <class T>
__global__ void one_hot_kernel(Source<T> index, T on, T off, int64_t groups, int64_t length, Target<T> out,
                               int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t r = i / (groups * length), c = i % (groups * length);
  double at = static_cast<double>(element<T>(index, r, c / length));
  bool here = at >= 0 && at < static_cast<double>(length) && static_cast<int64_t>(at) == c % length;
  out.base[r * out.stride + c] = here ? on : off;
}

// -- over whole matrices --------------------
template <class T>
__global__ void column_sums_kernel(const T* in, int64_t stride, int64_t rows, T beta, T* total, int64_t threads) {
  int64_t c = this_thread();
  if (c >= threads) return;
  T sum = beta == T(0) ? T(0) : beta * total[c];
  for (int64_t r = 0; r < rows; ++r) sum += in[r * stride + c];
  total[c] = sum;
}

template <class T>
__global__ void transpose_kernel(const T* in, int64_t rows, int64_t cols, int64_t first, T* out, int64_t threads) {
  int64_t i = this_thread();
  if (i >= threads) return;
  int64_t c = first + i / rows, r = i % rows;
  out[c * rows + r] = in[r * cols + c];
}

// For what cuBLAS does not take, or where there is none.
template <class T>
__global__ void gemm_kernel(bool turn_a, bool turn_b, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                            int64_t ldb, T beta, T* c, int64_t ldc, int64_t threads) {
  int64_t at = this_thread();
  if (at >= threads) return;
  int64_t i = at / n, j = at % n;
  T total = T(0);
  for (int64_t l = 0; l < k; ++l)
    total = fma_(turn_a ? a[l * lda + i] : a[i * lda + l], turn_b ? b[j * ldb + l] : b[l * ldb + j], total);
  T* to = c + i * ldc + j;
  *to = beta == T(0) ? total : fma_(beta, *to, total);
}

}  // namespace cuda
}  // namespace rg
