// Which kernels run: those of the best instruction set of the machine.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "common.h"

namespace rg {

#define RG_KERNELS_OF(isa)               \
  namespace isa {                        \
  extern const Kernels<float> kFloat;    \
  extern const Kernels<double> kDouble;  \
  }
RG_KERNELS_OF(baseline)
#ifndef RG_ONLY_BASELINE
RG_KERNELS_OF(avx2)
RG_KERNELS_OF(avx512)
#endif

namespace {

Isa find_isa() {
#ifdef RG_ONLY_BASELINE
  return Isa::kBaseline;
#else
  Isa most = Isa::kAvx512;
  if (const char* wanted = std::getenv("RG_ISA")) {
    if (std::strcmp(wanted, "baseline") == 0) most = Isa::kBaseline;
    if (std::strcmp(wanted, "avx2") == 0) most = Isa::kAvx2;
  }
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && most == Isa::kAvx512) return Isa::kAvx512;
  return avx2 && most != Isa::kBaseline ? Isa::kAvx2 : Isa::kBaseline;
#endif
}

}  // namespace

Isa best_isa() {
  static const Isa isa = find_isa();
  return isa;
}

const char* isa_name(Isa isa) {
  return isa == Isa::kAvx512 ? "AVX-512" : isa == Isa::kAvx2 ? "AVX2" : "baseline";
}

template <>
const Kernels<float>& kernels<float>() {
#ifndef RG_ONLY_BASELINE
  if (best_isa() == Isa::kAvx512) return avx512::kFloat;
  if (best_isa() == Isa::kAvx2) return avx2::kFloat;
#endif
  return baseline::kFloat;
}

template <>
const Kernels<double>& kernels<double>() {
#ifndef RG_ONLY_BASELINE
  if (best_isa() == Isa::kAvx512) return avx512::kDouble;
  if (best_isa() == Isa::kAvx2) return avx2::kDouble;
#endif
  return baseline::kDouble;
}

namespace {

constexpr int32_t kOperands[] = {
#define RG_EW(name, operands) operands,
#include "ew_ops.def"
#undef RG_EW
};

}  // namespace

void EwProgram::prepare() {
  int32_t first = static_cast<int32_t>(inputs.size()), values = first + static_cast<int32_t>(code.size());
  check(values <= 1024, Kind::kProgram, "an element-wise program is too long");
  std::vector<int32_t> last(values, -1);  // the instruction after which a value is not needed
  for (int32_t i = 0; i < static_cast<int32_t>(code.size()); ++i) {
    EwInstr& e = code[i];
    int32_t operands = kOperands[static_cast<int32_t>(e.op)];
    int32_t* args[] = {&e.a, &e.b, &e.c};
    for (int32_t k = 0; k < 3; ++k) {
      if (k >= operands) { *args[k] = -1; continue; }
      check(*args[k] >= 0 && *args[k] < first + i, Kind::kProgram, "an element-wise operand");
      last[*args[k]] = i;
    }
  }
  for (const EwOutput& e : outputs) {
    check(e.value >= 0 && e.value < values, Kind::kProgram, "an element-wise output");
    last[e.value] = values;
  }
  buffer.assign(values, 0);
  buffers = 0;
  std::vector<int32_t> free;
  auto take = [&] {
    if (free.empty()) return buffers++;
    int32_t b = free.back();
    free.pop_back();
    return b;
  };
  for (int32_t v = 0; v < first; ++v) buffer[v] = take();
  for (int32_t i = 0; i < static_cast<int32_t>(code.size()); ++i) {
    const EwInstr& e = code[i];
    buffer[first + i] = take();  // before its operands' are free: elements may be computed twice
    for (int32_t arg : {e.a, e.b, e.c})
      if (arg >= 0 && last[arg] == i) {
        last[arg] = -2;  // given back once, however often it is an operand
        free.push_back(buffer[arg]);
      }
    if (last[first + i] == -1) free.push_back(buffer[first + i]);
  }
  direct.assign(values, -1);
  std::vector<int32_t> taken;  // a target that is written twice keeps what is written last
  for (const EwOutput& e : outputs) {
    bool once = std::find(taken.begin(), taken.end(), e.target) == taken.end();
    taken.push_back(e.target);
    if (once && e.value >= first && direct[e.value] < 0 && (apart.empty() || apart[e.target])) direct[e.value] = e.target;
  }
}

}  // namespace rg
