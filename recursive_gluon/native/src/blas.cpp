#include "blas.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace rg {
namespace {

using DnnlSgemm = int (*)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t, float,
                          float*, int64_t);
template <class T>
using Cblas = void (*)(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);

DnnlSgemm g_dnnl = nullptr;
Cblas<float> g_sgemm = nullptr;
Cblas<double> g_dgemm = nullptr;
int (*g_get_threads)() = nullptr;
void (*g_set_threads)(int) = nullptr;
std::string g_name = "built-in loops";

// OpenMP's number of threads is the calling thread's own setting: one while a product runs, as before afterwards.
class OneThread {
 public:
  OneThread() {
    if (g_get_threads == nullptr) return;
    before_ = g_get_threads();
    if (before_ != 1) g_set_threads(1);
  }
  ~OneThread() {
    if (before_ > 1) g_set_threads(before_);
  }

 private:
  int before_ = 1;
};

template <class T>
void plain(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
           T beta, T* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i) {
    T* row = c + i * ldc;
    for (int64_t j = 0; j < n; ++j) row[j] = beta == T(0) ? T(0) : row[j] * beta;
    if (turn_b) {
      for (int64_t j = 0; j < n; ++j) {
        T total = T(0);
        for (int64_t l = 0; l < k; ++l) total += (turn_a ? a[l * lda + i] : a[i * lda + l]) * b[j * ldb + l];
        row[j] += total;
      }
    } else {
      for (int64_t l = 0; l < k; ++l) {
        T scale = turn_a ? a[l * lda + i] : a[i * lda + l];
        const T* from = b + l * ldb;
        for (int64_t j = 0; j < n; ++j) row[j] += scale * from[j];
      }
    }
  }
}

template <class T>
void by_cblas(Cblas<T> f, bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
              int64_t ldb, T beta, T* c, int64_t ldc) {
  constexpr int kRowMajor = 101, kPlain = 111, kTurned = 112;
  f(kRowMajor, turn_a ? kTurned : kPlain, turn_b ? kTurned : kPlain, static_cast<int>(m), static_cast<int>(n),
    static_cast<int>(k), T(1), a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

}  // namespace

template <>
void gemm<float>(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                 int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (g_dnnl != nullptr && k > 0 && lda > 0) {
    OneThread one;
    if (g_dnnl(turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc) == 0) return;
  }
  if (g_sgemm != nullptr && k > 0 && lda > 0 && std::max({m, n, k, lda, ldb, ldc}) < (int64_t(1) << 31))
    return by_cblas(g_sgemm, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
  plain(turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

template <>
void gemm<double>(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b,
                  int64_t ldb, double beta, double* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (g_dgemm != nullptr && k > 0 && lda > 0 && std::max({m, n, k, lda, ldb, ldc}) < (int64_t(1) << 31))
    return by_cblas(g_dgemm, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
  plain(turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

bool blas_open(const char* kind, const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  if (std::strcmp(kind, "onednn") == 0) {
    auto sgemm = reinterpret_cast<DnnlSgemm>(dlsym(library, "dnnl_sgemm"));
    if (sgemm == nullptr) return false;
    // The library's own OpenMP: its symbols are found through it.
    g_get_threads = reinterpret_cast<int (*)()>(dlsym(library, "omp_get_max_threads"));
    g_set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "omp_set_num_threads"));
    if (g_set_threads == nullptr) g_get_threads = nullptr;
    struct Version { int major, minor, patch; };
    auto version = reinterpret_cast<const Version* (*)()>(dlsym(library, "dnnl_version"));
    g_name = "oneDNN";
    if (version != nullptr) g_name += " " + std::to_string(version()->major) + "." + std::to_string(version()->minor);
    g_dnnl = sgemm;
    return true;
  }
  if (std::strcmp(kind, "cblas") == 0) {
    auto single = reinterpret_cast<Cblas<float>>(dlsym(library, "cblas_sgemm"));
    auto twice = reinterpret_cast<Cblas<double>>(dlsym(library, "cblas_dgemm"));
    if (single == nullptr || twice == nullptr) return false;
    g_sgemm = single;
    g_dgemm = twice;
    if (g_dnnl == nullptr) g_name = "OpenBLAS";
    return true;
  }
  return false;
}

const char* blas_name() { return g_name.c_str(); }

}  // namespace rg
