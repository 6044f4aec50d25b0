// Matrix products by cuBLAS, which is opened at run time: a machine may have a device and no cuBLAS, and one that
// compiles needs neither.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <string>

#include "../backend.h"
#include "../common.h"

namespace rg {
namespace cuda {

// The functions of cuBLAS that are called, with the types of its C interface (stable since version 4).
struct Cublas {
  using Handle = void*;
  template <class T>
  using Gemm = int (*)(Handle, int, int, int, int, int, const T*, const T*, int, const T*, int, const T*, T*, int);

  int (*create)(Handle*) = nullptr;
  int (*destroy)(Handle) = nullptr;
  int (*set_stream)(Handle, cudaStream_t) = nullptr;
  int (*set_math_mode)(Handle, int) = nullptr;
  Gemm<float> sgemm = nullptr;
  Gemm<double> dgemm = nullptr;

  // False where the library cannot be opened or lacks a function.
  bool open(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    Cublas found;
    bool all = find(library, "cublasCreate_v2", found.create) && find(library, "cublasDestroy_v2", found.destroy) &&
               find(library, "cublasSetStream_v2", found.set_stream) &&
               find(library, "cublasSetMathMode", found.set_math_mode) &&
               find(library, "cublasSgemm_v2", found.sgemm) && find(library, "cublasDgemm_v2", found.dgemm);
    if (all) *this = found;
    return all;
  }
  bool there() const { return create != nullptr; }

 private:
  template <class Function>
  static bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
  }
};

// The products of one lane. A handle a stream: then cuBLAS gives the same bits at every run.
class Products {
 public:
  Products(const Cublas& cublas, cudaStream_t stream) : cublas_(cublas) {
    if (!cublas_.there()) return;
    ok(cublas_.create(&handle_), "make a handle");
    ok(cublas_.set_stream(handle_, stream), "use a stream");
    constexpr int kPedantic = 2;  // CUBLAS_PEDANTIC_MATH: every product and sum in the type's own precision
    ok(cublas_.set_math_mode(handle_, kPedantic), "use full precision");
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;
  ~Products() {
    if (handle_ != nullptr) cublas_.destroy(handle_);
  }

  // False for what cuBLAS does not take.
  template <class T>
  bool gemm(const Launch<T>& l) {
    bool fits = std::max({l.m, l.n, l.k, l.lda, l.ldb, l.ldc}) < (int64_t(1) << 31);
    if (handle_ == nullptr || !fits || l.k == 0 || l.lda == 0) return false;
    if (l.m == 0 || l.n == 0) return true;
    // cuBLAS counts by columns: what it reads is turned, and (a b)' = b' a'.
    T one = T(1);
    ok(function(one)(handle_, l.turn_b, l.turn_a, static_cast<int>(l.n), static_cast<int>(l.m), static_cast<int>(l.k),
                     &one, l.in[1].base, static_cast<int>(l.ldb), l.in[0].base, static_cast<int>(l.lda), &l.beta,
                     l.out[0].base, static_cast<int>(l.ldc)),
       "multiply matrices");
    return true;
  }

 private:
  Cublas::Gemm<float> function(float) const { return cublas_.sgemm; }
  Cublas::Gemm<double> function(double) const { return cublas_.dgemm; }
  static void ok(int status, const char* doing) {
    constexpr int kAllocFailed = 3;
    if (status != 0)
      throw Error(status == kAllocFailed ? Kind::kMemory : Kind::kInternal,
                  std::string("cuBLAS cannot ") + doing + ": status " + std::to_string(status));
  }

  Cublas cublas_;
  Cublas::Handle handle_ = nullptr;
};

}  // namespace cuda
}  // namespace rg
