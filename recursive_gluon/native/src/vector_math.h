// Elementary functions without branches, so that loops over them become vector code. Included by files that are
// compiled once per instruction set, inside their namespace. Errors are at most about 2 ulp (tests/native). The includer
// has included <cmath>, <cstdint> and <cstring> outside of its namespace.

// One rounding where the machine has it, spelled out: vector bodies and scalar ends of loops must agree bit for bit.
#ifdef __FMA__
static inline float fma_(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma_(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
static inline float fma_(float a, float b, float c) { return a * b + c; }
static inline double fma_(double a, double b, double c) { return a * b + c; }
#endif

static inline float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
static inline uint32_t to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 2^n * exp(r), n whole, |r| <= ln 2 / 2. The polynomial is the Taylor series to degree 7, its error below 1e-8.
static inline float exp_(float x) {
  x = x > 89.0f ? 89.0f : x;  // overflows to infinity below
  x = x < -104.0f ? -104.0f : x;
  float shifted = fma_(x, 1.44269504088896341f, 12582912.0f);  // 1.5 * 2^23: rounds to a whole number
  float n = shifted - 12582912.0f;
  float r = fma_(n, -0.693359375f, x);
  r = fma_(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = fma_(p, r, 1.3981999507e-3f);
  p = fma_(p, r, 8.3334519073e-3f);
  p = fma_(p, r, 4.1665795894e-2f);
  p = fma_(p, r, 1.6666665459e-1f);
  p = fma_(p, r, 5.0000001201e-1f);
  p = fma_(p, r * r, r) + 1.0f;
  uint32_t whole = to_bits(shifted) - 0x4B400000u;  // n again, from the digits; anything for NaN, which p is too
  uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(whole) >> 1);  // in two steps: one may be too small
  return p * from_bits((half + 127u) << 23) * from_bits((whole - half + 127u) << 23);
}

static inline float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }

// A rational function near zero, where 1 - 2 / (exp(2x) + 1) loses digits.
static inline float tanh_(float x) {
  float a = std::fabs(x);
  float z = x * x;
  float p = -5.70498872745e-3f;
  p = fma_(p, z, 2.06390887954e-2f);
  p = fma_(p, z, -5.37397155531e-2f);
  p = fma_(p, z, 1.33314422036e-1f);
  p = fma_(p, z, -3.33332819422e-1f);
  float small = fma_(p * z, x, x);
  float large = 1.0f - 2.0f / (exp_(2.0f * a) + 1.0f);
  large = std::copysign(large, x);
  return a < 0.625f ? small : large;
}

static inline double exp_(double x) { return std::exp(x); }
static inline double sigmoid_(double x) { return 1.0 / (1.0 + std::exp(-x)); }
static inline double tanh_(double x) { return std::tanh(x); }
