// Matrix products by a library that is found at run time.
#pragma once

#include <cstdint>

namespace rg {

// c (m x n) = op(a) op(b) + beta c, row-major; one thread, whatever the library's own settings are.
template <class T>
void gemm(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
          T beta, T* c, int64_t ldc);

// Opens a library: kind "onednn" (dnnl_sgemm) or "cblas" (cblas_sgemm and cblas_dgemm). False where it cannot be
// opened or lacks the function. Without one, plain loops serve.
bool blas_open(const char* kind, const char* path);
const char* blas_name();

}  // namespace rg
