// What element-wise operators and sums over rows are made of, for the processor and for a CUDA device. Included by
// files that are compiled once per instruction set or for a device, inside their namespace, after exp_ and fma_.
// The includer has included <cmath>, <cstdint>, <limits> and kernels.h, and defines RG_FUNCTION, how such a
// function is declared there, and RG_LOOP, a loop over i < n whose turns do not depend on one another.

// One element of a row: where it lies, or summed in order.
template <class T>
RG_FUNCTION T element(Source<T> s, int64_t r, int64_t c) {
  if (s.start == nullptr) return s.base[(s.index != nullptr ? s.index[r] : r) * s.stride + c];
  int64_t k = s.start[r], end = s.start[r + 1];
  if (k == end) return T(0);
  T total = s.base[s.index[k] * s.stride + c];
  while (++k < end) total += s.base[s.index[k] * s.stride + c];
  return total;
}

// Every `step`th element of row r from column `first` on.
template <class T>
struct Elements {
  Source<T> source;
  int64_t r, first, step;
  RG_FUNCTION T operator[](int64_t i) const { return element(source, r, first + i * step); }
};

template <class T>
RG_FUNCTION T sign_(T x) { return static_cast<T>((x > T(0)) - (x < T(0))); }
template <class T>
RG_FUNCTION T mod_(T x, T y) {  // the sign of the divisor; 0 for a divisor of 0, as MXNet
  if (y == T(0)) return T(0);
  T r = std::fmod(x, y);
  return r != T(0) && ((r < T(0)) != (y < T(0))) ? r + y : r;
}
template <class T>
RG_FUNCTION T erfinv_(T x) {  // Giles' start, then Newton steps
  double v = static_cast<double>(x);
  if (v >= 1) return v == 1 ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
  if (v <= -1) return v == -1 ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
  double w = -std::log((1 - v) * (1 + v)), s = std::sqrt(w);
  double g = w < 5 ? v * (1.50140941 + 0.246640727 * (w - 2.5) - 0.00417768164 * (w - 2.5) * (w - 2.5))
                   : v * (2.83297682 + 1.00167406 * (s - 3) + 0.00943887047 * (s - 3) * (s - 3));
  for (int k = 0; k < 4; ++k) g -= (std::erf(g) - v) / (1.1283791670955126 * std::exp(-g * g));
  return static_cast<T>(g);
}
template <class T>
RG_FUNCTION T softrelu_(T x) { return x > T(20) ? x : std::log1p(std::exp(x)); }

// A row x is whatever has x[i]: a pointer, or what computes its elements.

// Sums in 16 lanes and then over the lanes: an order that depends on the length alone.
template <class T, class Row>
RG_FUNCTION T sum_of(Row x, int64_t n) {
  T lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) lanes[k] += x[i + k];
  T total = T(0);
  for (int k = 0; k < 16; ++k) total += lanes[k];
  for (; i < n; ++i) total += x[i];
  return total;
}

template <class T, class Row, class Other>
RG_FUNCTION T dot_of(Row x, Other y, int64_t n) {
  T lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) lanes[k] = fma_(x[i + k], y[i + k], lanes[k]);
  T total = T(0);
  for (int k = 0; k < 16; ++k) total += lanes[k];
  for (; i < n; ++i) total = fma_(x[i], y[i], total);
  return total;
}

template <class T, class Row>
RG_FUNCTION T reduced(Reduction kind, Row x, int64_t n) {
  if (n == 0) return kind == Reduction::kProd || kind == Reduction::kNanProd ? T(1) : T(0);
  T total = T(0);
  switch (kind) {
    case Reduction::kSum: return sum_of<T>(x, n);
    case Reduction::kMean: return sum_of<T>(x, n) / static_cast<T>(n);
    case Reduction::kMax:
      total = x[0];
      for (int64_t i = 1; i < n; ++i) total = x[i] > total || x[i] != x[i] ? x[i] : total;
      return total;
    case Reduction::kMin:
      total = x[0];
      for (int64_t i = 1; i < n; ++i) total = x[i] < total || x[i] != x[i] ? x[i] : total;
      return total;
    case Reduction::kProd:
      total = T(1);
      for (int64_t i = 0; i < n; ++i) total *= x[i];
      return total;
    case Reduction::kNorm2: return std::sqrt(dot_of<T>(x, x, n));
    case Reduction::kNorm1:
      for (int64_t i = 0; i < n; ++i) total += std::fabs(x[i]);
      return total;
    case Reduction::kNanSum:
      for (int64_t i = 0; i < n; ++i) total += x[i] == x[i] ? x[i] : T(0);
      return total;
    default:
      total = T(1);
      for (int64_t i = 0; i < n; ++i) total *= x[i] == x[i] ? x[i] : T(1);
      return total;
  }
}

// In place, over one group of columns.
template <class T>
RG_FUNCTION void soft_row(Soft kind, T heat, T* o, int64_t n) {
  if (kind == Soft::kSoftmin) RG_LOOP o[i] = -o[i];
  T most = reduced<T>(Reduction::kMax, static_cast<const T*>(o), n);
  RG_LOOP o[i] = (o[i] - most) / heat;
  if (kind == Soft::kLogSoftmax) {
    T total = T(0);
    for (int64_t i = 0; i < n; ++i) total += exp_(o[i]);
    T shift = std::log(total);
    RG_LOOP o[i] -= shift;
  } else {
    RG_LOOP o[i] = exp_(o[i]);
    T total = sum_of<T>(static_cast<const T*>(o), n);
    RG_LOOP o[i] /= total;
  }
}

// A position among `length`, from a number: at most the last one, or wrapped around.
RG_FUNCTION int64_t bounded(double value, bool wrap, int64_t length) {
  if (!(value - value == 0)) return value > 0 && !wrap ? length - 1 : 0;  // NaN, an infinity
  double most = static_cast<double>(length);
  if (wrap) {
    double r = std::fmod(std::trunc(value), most);
    return static_cast<int64_t>(r < 0 ? r + most : r);
  }
  return value <= 0 ? 0 : value >= most - 1 ? length - 1 : static_cast<int64_t>(value);
}
