// The kernels, compiled once per instruction set (RG_ISA_NAME). Only loops over raw pointers: nothing here may end up in
// a function that other files share.
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "kernels.h"

namespace rg {
namespace RG_ISA_NAME {
namespace {

#include "vector_math.h"

#define RG_FUNCTION inline
#define RG_LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)
#include "row_math.h"

constexpr int64_t kL1 = 24 * 1024;  // bytes that a block's buffers may take

template <class T> inline T min_(T a, T b) { return b < a ? b : a; }

// Numbers of a vector register of 512 bits.
template <class T> constexpr int64_t kLanes = 64 / static_cast<int64_t>(sizeof(T));

// An operand or result of an operator on a block: rows `stride` elements apart.
template <class T>
struct Rows {
  T* at;
  int64_t stride;
};

// One operator on `height` rows of n: whole vectors, the last of them moved back to end with the row. So some elements
// are computed twice, which is why a result has memory of its own.
template <class T, class Body>
inline __attribute__((always_inline)) void each(int64_t height, int64_t n, Body body) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t r = 0; r < height; ++r) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      _Pragma("GCC ivdep") for (int64_t k = 0; k < lanes; ++k) body(r, i + k);
    }
    if (i == n) continue;
    if (n >= lanes) {
      i = n - lanes;
      _Pragma("GCC ivdep") for (int64_t k = 0; k < lanes; ++k) body(r, i + k);
    } else {
      for (; i < n; ++i) {
        body(r, i);
        asm volatile("");  // rows so short are not worth vector code, which takes long to compile
      }
    }
  }
}

#define RG_UNARY(name, formula) \
  case EwOp::name: \
    each<T>(height, n, [=](int64_t r, int64_t i) __attribute__((always_inline)) { \
      T x = a.at[r * a.stride + i]; \
      o.at[r * o.stride + i] = formula; \
    }); \
    break;
#define RG_BINARY(name, formula) \
  case EwOp::name: \
    each<T>(height, n, [=](int64_t r, int64_t i) __attribute__((always_inline)) { \
      T x = a.at[r * a.stride + i], y = b.at[r * b.stride + i]; \
      o.at[r * o.stride + i] = formula; \
    }); \
    break;
#define RG_TERNARY(name, formula) \
  case EwOp::name: \
    each<T>(height, n, [=](int64_t r, int64_t i) __attribute__((always_inline)) { \
      T x = a.at[r * a.stride + i], y = b.at[r * b.stride + i], z = c.at[r * c.stride + i]; \
      o.at[r * o.stride + i] = formula; \
    }); \
    break;

template <class T>
void apply(EwOp op, Rows<const T> a, Rows<const T> b, Rows<const T> c, T s, Rows<T> o, int64_t height, int64_t n) {
  switch (op) {
#include "ew_formulas.def"
    case EwOp::kCount: break;
  }
}

template <class T>
inline const T* row_of(const Source<T>& s, int64_t r) {
  return s.base + (s.index != nullptr ? s.index[r] : r) * s.stride;
}

template <class T>
inline void copy_row(const T* from, int64_t n, T* to) {
  each<T>(1, n, [=](int64_t, int64_t i) __attribute__((always_inline)) { to[i] = from[i]; });
}

// Columns first ... first + n of row r, into `to`; rows with `start` are summed.
template <class T>
inline void load(const Source<T>& s, int64_t r, int64_t first, int64_t n, T* to) {
  if (s.start == nullptr) return copy_row(row_of(s, r) + first, n, to);
  int64_t k = s.start[r], end = s.start[r + 1];
  if (k == end) {
    RG_LOOP to[i] = T(0);
    return;
  }
  const T* from = s.base + s.index[k] * s.stride + first;
  if (++k == end) return copy_row(from, n, to);
  const T* next = s.base + s.index[k] * s.stride + first;
  RG_LOOP to[i] = from[i] + next[i];
  while (++k < end) {
    from = s.base + s.index[k] * s.stride + first;
    RG_LOOP to[i] += from[i];
  }
}

// Asks for a row that will be read soon, where rows are far apart.
template <class T>
inline void prefetch(const Source<T>& s, int64_t r, int64_t first, int64_t n) {
  if (s.index == nullptr || s.start != nullptr) return;
  const char* at = reinterpret_cast<const char*>(row_of(s, r) + first);
  int64_t bytes = min_<int64_t>(n * static_cast<int64_t>(sizeof(T)), 256);
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(at + k);
}

// A fused program on blocks whose buffers fit into the first-level cache. Rows of some length are read and written where
// they lie; short ones are gathered into one long row, which takes fewer steps.
template <class T>
void ew(const EwProgram& p, const Source<T>* sources, const Target<T>* targets, int64_t rows, T* scratch) {
  const int64_t cols = p.cols, inputs = static_cast<int64_t>(p.inputs.size()), values = inputs + static_cast<int64_t>(p.code.size());
  if (rows == 0 || cols == 0) return;
  int64_t room = min_<int64_t>(kL1 / static_cast<int64_t>(sizeof(T)), kScratch) / (p.buffers > 0 ? p.buffers : 1);
  if (room > 16) room = room / 16 * 16;
  int64_t width = min_<int64_t>(cols, room > 16 ? room : 16);          // columns of a block
  int64_t height = width < cols ? 1 : (room / cols > 1 ? room / cols : 1);  // rows of a block
  const bool in_place = cols >= 3 * kLanes<T>;
  Rows<const T> at[1024];
  if (values > 1024) __builtin_trap();  // EwProgram::prepare refuses it
  for (int64_t r = 0; r < rows; r += height) {
    int64_t h = min_(height, rows - r);
    for (int64_t q = 0; q < cols; q += width) {
      int64_t w = min_(width, cols - q);
      for (int64_t v = 0; v < inputs; ++v) {
        const Source<T>& s = sources[p.inputs[v].source];
        T* buffer = scratch + p.buffer[v] * room;
        if (p.inputs[v].cell) {
          for (int64_t k = 0; k < h; ++k) {
            T value;
            load(s, r + k, 0, 1, &value);
            T* to = buffer + k * w;
            for (int64_t i = 0; i < w; ++i) to[i] = value;
          }
        } else if (s.start == nullptr && s.index == nullptr && (in_place || h == 1 || (s.stride == cols && w == cols))) {
          at[v] = {s.base + r * s.stride + q, s.stride};
          continue;
        } else {
          for (int64_t k = 0; k < h; ++k) {
            if (r + k + 2 < rows) prefetch(s, r + k + 2, q, w);
            load(s, r + k, q, w, buffer + k * w);
          }
        }
        at[v] = {buffer, w};
      }
      int64_t calls = in_place ? h : 1, length = in_place ? w : h * w;
      for (int64_t v = inputs; v < values; ++v) {
        const EwInstr& e = p.code[v - inputs];
        Rows<T> o{scratch + p.buffer[v] * room, w};
        if (in_place && p.direct[v] >= 0) {
          const Target<T>& t = targets[p.direct[v]];
          o = {t.base + r * t.stride + q, t.stride};
        }
        const Rows<const T> none{nullptr, 0};
        apply<T>(e.op, at[e.a], e.b < 0 ? none : at[e.b], e.c < 0 ? none : at[e.c], static_cast<T>(e.scalar), o, calls, length);
        at[v] = {o.at, o.stride};
      }
      for (const EwOutput& e : p.outputs) {
        if (in_place && p.direct[e.value] == e.target) continue;
        const Target<T>& t = targets[e.target];
        for (int64_t k = 0; k < h; ++k)
          copy_row(at[e.value].at + k * at[e.value].stride, w, t.base + (r + k) * t.stride + q);
      }
    }
  }
}

// A row in one place: where it lies, or a copy in `scratch`; whole rows that do not fit are summed in parts by `each`.
template <class T>
inline const T* whole_row(const Source<T>& s, int64_t r, int64_t cols, T* scratch) {
  if (s.start == nullptr) return row_of(s, r);
  if (s.start[r + 1] - s.start[r] == 1) return s.base + s.index[s.start[r]] * s.stride;
  if (cols > kScratch) return nullptr;
  load(s, r, 0, cols, scratch);
  return scratch;
}

template <class T>
void map(const Source<T>& in, const int32_t* map, int64_t cols, const Target<T>& out, int64_t rows, T* scratch) {
  int64_t most = 0;
  if (in.start != nullptr)
    for (int64_t c = 0; c < cols; ++c) most = map[c] + 1 > most ? map[c] + 1 : most;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = whole_row(in, r, most, scratch);
    T* to = out.base + r * out.stride;
    for (int64_t c = 0; c < cols; ++c)
      to[c] = map[c] < 0 ? T(0) : from != nullptr ? from[map[c]] : element(in, r, map[c]);
  }
}

template <class T>
void reduce(Reduction kind, const Source<T>& in, int64_t groups, int64_t length, const Target<T>& out, int64_t rows,
            T* scratch) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = whole_row(in, r, groups * length, scratch);
    for (int64_t g = 0; g < groups; ++g) {
      const T* x = from == nullptr ? nullptr : from + g * length;
      if (x == nullptr && length <= kScratch) {
        load(in, r, g * length, length, scratch);
        x = scratch;
      }
      out.base[r * out.stride + g] =
          x != nullptr ? reduced<T>(kind, x, length) : reduced<T>(kind, Elements<T>{in, r, g * length, 1}, length);
    }
  }
}

template <class T>
void soft(Soft kind, double temperature, const Source<T>& in, int64_t groups, int64_t length, const Target<T>& out,
          int64_t rows, T*) {
  T heat = static_cast<T>(temperature);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      T* o = out.base + r * out.stride + g * length;
      load(in, r, g * length, length, o);
      soft_row(kind, heat, o, length);
    }
}

template <class T>
void bdot(const Source<T>& a, bool turn_a, const Source<T>& b, bool turn_b, int64_t m, int64_t n, int64_t k,
          const Target<T>& out, int64_t rows, T* scratch) {
  T* other = scratch + kScratch / 2;
  for (int64_t r = 0; r < rows; ++r) {
    bool fits = m * k <= kScratch / 2 && n * k <= kScratch / 2;
    const T* x = fits || a.start == nullptr ? whole_row(a, r, m * k, scratch) : nullptr;
    const T* y = fits || b.start == nullptr ? whole_row(b, r, n * k, other) : nullptr;
    T* o = out.base + r * out.stride;
    if (x == nullptr || y == nullptr) {  // wide and summed: element by element
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          T total = T(0);
          for (int64_t l = 0; l < k; ++l)
            total += element(a, r, turn_a ? l * m + i : i * k + l) * element(b, r, turn_b ? j * k + l : l * n + j);
          o[i * n + j] = total;
        }
    } else if (n == 1 && !turn_a) {  // b is a vector, whichever way it is turned
      for (int64_t i = 0; i < m; ++i) o[i] = dot_of<T>(x + i * k, y, k);
    } else if (!turn_b || n == 1) {
      for (int64_t i = 0; i < m * n; ++i) o[i] = T(0);
      for (int64_t l = 0; l < k; ++l)
        if (n == 1) {  // a turned: columns of it, added up
          T scale = y[l];
          const T* column = x + l * m;
          for (int64_t i = 0; i < m; ++i) o[i] = fma_(column[i], scale, o[i]);
        } else {
          const T* row = y + l * n;
          for (int64_t i = 0; i < m; ++i) {
            T scale = turn_a ? x[l * m + i] : x[i * k + l];
            T* to = o + i * n;
            for (int64_t j = 0; j < n; ++j) to[j] = fma_(scale, row[j], to[j]);
          }
        }
    } else if (k == 1) {  // an outer product
      for (int64_t i = 0; i < m; ++i) {
        T scale = x[i];
        T* to = o + i * n;
        for (int64_t j = 0; j < n; ++j) to[j] = scale * y[j];
      }
    } else {
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          T total = T(0);
          if (!turn_a) {
            total = dot_of<T>(x + i * k, y + j * k, k);
          } else {
            for (int64_t l = 0; l < k; ++l) total = fma_(x[l * m + i], y[j * k + l], total);
          }
          o[i * n + j] = total;
        }
    }
  }
}

template <class T>
void pick(const Source<T>& in, const Source<T>& index, bool wrap, int64_t groups, int64_t length, const Target<T>& out,
          int64_t rows, T*) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      int64_t at = bounded(static_cast<double>(element(index, r, g)), wrap, length);
      out.base[r * out.stride + g] = element(in, r, g * length + at);
    }
}

template <class T>
void one_hot(const Source<T>& index, double on, double off, int64_t groups, int64_t length, const Target<T>& out,
             int64_t rows, T*) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      T* o = out.base + r * out.stride + g * length;
      double at = static_cast<double>(element(index, r, g));
      for (int64_t i = 0; i < length; ++i) o[i] = static_cast<T>(off);
      if (at >= 0 && at < static_cast<double>(length)) o[static_cast<int64_t>(at)] = static_cast<T>(on);
    }
}

template <class T>
void column_sums(const T* in, int64_t stride, int64_t rows, int64_t cols, T* total) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = in + r * stride;
    int64_t n = cols;
    RG_LOOP total[i] += row[i];
  }
}

// Four rows of four, turned in registers.
inline void turn4(const float* in, int64_t cols, float* out, int64_t rows) {
  typedef float V __attribute__((vector_size(16), aligned(4)));
  typedef int32_t M __attribute__((vector_size(16)));
  V a = *reinterpret_cast<const V*>(in), b = *reinterpret_cast<const V*>(in + cols);
  V c = *reinterpret_cast<const V*>(in + 2 * cols), d = *reinterpret_cast<const V*>(in + 3 * cols);
  V ab0 = __builtin_shuffle(a, b, M{0, 4, 1, 5}), ab1 = __builtin_shuffle(a, b, M{2, 6, 3, 7});
  V cd0 = __builtin_shuffle(c, d, M{0, 4, 1, 5}), cd1 = __builtin_shuffle(c, d, M{2, 6, 3, 7});
  *reinterpret_cast<V*>(out) = __builtin_shuffle(ab0, cd0, M{0, 1, 4, 5});
  *reinterpret_cast<V*>(out + rows) = __builtin_shuffle(ab0, cd0, M{2, 3, 6, 7});
  *reinterpret_cast<V*>(out + 2 * rows) = __builtin_shuffle(ab1, cd1, M{0, 1, 4, 5});
  *reinterpret_cast<V*>(out + 3 * rows) = __builtin_shuffle(ab1, cd1, M{2, 3, 6, 7});
}
inline void turn4(const double* in, int64_t cols, double* out, int64_t rows) {
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 4; ++j) out[j * rows + i] = in[i * cols + j];
}

// Columns first ... last of `in` (rows x cols) become rows of `out` (cols x rows).
template <class T>
void transpose(const T* in, int64_t rows, int64_t cols, int64_t first, int64_t last, T* out) {
  int64_t whole_rows = rows / 4 * 4, c = first;
  for (; c + 16 <= last; c += 16)  // a line of memory is read whole before the next block
    for (int64_t r = 0; r < whole_rows; r += 4)
      for (int64_t k = c; k < c + 16; k += 4) turn4(in + r * cols + k, cols, out + k * rows + r, rows);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = r < whole_rows ? c : first; k < last; ++k) out[k * rows + r] = in[r * cols + k];
}

#ifdef __AVX512F__

typedef float Vector __attribute__((vector_size(64)));
typedef int32_t Lanes __attribute__((vector_size(64)));

// The sums of four vectors' lanes, side by side.
inline __m128 sums_of(Vector a, Vector b, Vector c, Vector d) {
  const Lanes low{0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
  const Lanes high{1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31};
  const Lanes front{0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
  const Lanes back{2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
  Vector ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
  Vector cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
  Vector all = __builtin_shuffle(ab, cd, front) + __builtin_shuffle(ab, cd, back);  // in each four lanes: a, b, c, d
  float lanes[16];
  std::memcpy(lanes, &all, sizeof lanes);
  return (_mm_loadu_ps(lanes) + _mm_loadu_ps(lanes + 4)) + (_mm_loadu_ps(lanes + 8) + _mm_loadu_ps(lanes + 12));
}

// Four rows of w times `count` (at most four) rows of x: accumulators in registers, each row of w read once.
template <int count>
inline void small_block(const float* const* x, const float* w, int64_t k, float* const* y) {
  Vector sums[count][4] = {};
  auto step = [&](int64_t i, __mmask16 mask) __attribute__((always_inline)) {
    Vector row[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) row[j] = _mm512_maskz_loadu_ps(mask, w + j * k + i);
#pragma GCC unroll 4
    for (int m = 0; m < count; ++m) {
      Vector left = _mm512_maskz_loadu_ps(mask, x[m] + i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sums[m][j] = _mm512_fmadd_ps(left, row[j], sums[m][j]);
    }
  };
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) step(i, 0xffff);
  if (i < k) step(i, static_cast<__mmask16>((1 << (k - i)) - 1));
#pragma GCC unroll 4
  for (int m = 0; m < count; ++m) _mm_storeu_ps(y[m], sums_of(sums[m][0], sums[m][1], sums[m][2], sums[m][3]));
}

// y (m x n) = x (m x k) times w (n x k) turned, for few rows of x: w is streamed once, in the order in which it lies.
void small_product(const float* x, int64_t ldx, const float* w, int64_t m, int64_t n, int64_t k, float* y, int64_t ldy) {
  for (int64_t j = 0; j + 4 <= n; j += 4)
    for (int64_t r = 0; r < m; r += 4) {
      int64_t count = min_<int64_t>(4, m - r);
      const float* rows[4];
      float* to[4];
      for (int64_t i = 0; i < count; ++i) {
        rows[i] = x + (r + i) * ldx;
        to[i] = y + (r + i) * ldy + j;
      }
      const float* from = w + j * k;
      switch (count) {
        case 1: small_block<1>(rows, from, k, to); break;
        case 2: small_block<2>(rows, from, k, to); break;
        case 3: small_block<3>(rows, from, k, to); break;
        default: small_block<4>(rows, from, k, to);
      }
    }
  for (int64_t j = n / 4 * 4; j < n; ++j)
    for (int64_t r = 0; r < m; ++r) y[r * ldy + j] = dot_of<float>(x + r * ldx, w + j * k, k);
}

template <class T>
constexpr auto small() {
  if constexpr (sizeof(T) == sizeof(float)) return small_product;
  else return nullptr;
}

#else

template <class T>
constexpr std::nullptr_t small() { return nullptr; }

#endif

template <class T>
constexpr Kernels<T> table() {
  return {ew<T>, map<T>, reduce<T>, soft<T>, bdot<T>, pick<T>, one_hot<T>, column_sums<T>, transpose<T>, small<T>()};
}

}  // namespace

extern const Kernels<float> kFloat = table<float>();
extern const Kernels<double> kDouble = table<double>();

}  // namespace RG_ISA_NAME
}  // namespace rg
