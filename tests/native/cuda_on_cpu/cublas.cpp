// cuBLAS as far as native/src/cuda/products.cuh uses it: plain loops that count by columns, as cuBLAS does.
#include <cuda_runtime.h>

namespace {

struct Handle {
  cudaStream_t stream;
  int mode;
};

template <class T>
int gemm(Handle* handle, int turn_a, int turn_b, int m, int n, int k, const T* alpha, const T* a, int lda, const T* b, int ldb,
         const T* beta, T* c, int ldc) {
  if (handle->mode != 2 || lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m) return 7;  // an invalid value
  T x = *alpha, y = *beta;
  handle->stream->tasks.push_back({{}, [=] {
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < m; ++i) {
        T total = T(0);
        for (int64_t l = 0; l < k; ++l)
          total += (turn_a ? a[i * lda + l] : a[l * lda + i]) * (turn_b ? b[l * ldb + j] : b[j * ldb + l]);
        c[j * ldc + i] = x * total + (y == T(0) ? T(0) : y * c[j * ldc + i]);
      }
  }});
  return 0;
}

}  // namespace

#define API __attribute__((visibility("default")))
extern "C" {

API int cublasCreate_v2(Handle** handle) { return *handle = new Handle{nullptr, 0}, 0; }
API int cublasDestroy_v2(Handle* handle) { return delete handle, 0; }
API int cublasSetStream_v2(Handle* handle, cudaStream_t stream) { return handle->stream = stream, 0; }
API int cublasSetMathMode(Handle* handle, int mode) { return handle->mode = mode, 0; }
API int cublasSgemm_v2(Handle* h, int ta, int tb, int m, int n, int k, const float* alpha, const float* a, int lda,
                       const float* b, int ldb, const float* beta, float* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
API int cublasDgemm_v2(Handle* h, int ta, int tb, int m, int n, int k, const double* alpha, const double* a, int lda,
                       const double* b, int ldb, const double* beta, double* c, int ldc) {
  return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

}  // extern "C"
