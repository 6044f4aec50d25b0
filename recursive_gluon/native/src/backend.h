// What lanes need of a device: memory, copies, launches, events. cpu_backend.cpp has it on threads, cuda/ on streams.
//
// A lane runs what it is given in the order in which it is given. Between lanes nothing is ordered but by events: what a
// lane is given after wait(lane, e) runs when what was given before the latest record of e has run. So a record is
// handed over before its waits; LanePlan::issue is such an order. Calls come from one thread at a time and return at
// once; what they point to (host memory of copies, programs and maps of launches) stays as it is until synchronise().
//
// What goes wrong in a call is thrown there. What goes wrong in a lane is thrown by synchronise(), once; until then the
// lanes pass over what they are given, so that nothing waits forever. So does Ctrl-C, with Error kInterrupt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"

namespace rg {

enum class Operation : int32_t {
  kEw, kMap, kReduce, kSoft, kBdot, kPick, kOneHot,  // over rows, as in Kernels<T>
  kColumnSums,  // out[0].base[c] = beta out[0].base[c] + the sum over the rows of in[0], c < cols
  kTranspose,   // columns first ... last of in[0] (rows x cols, stride cols) become rows of out[0] (stride rows)
  kGemm,        // out[0] (m x n, ldc) = op(in[0]) op(in[1]) + beta out[0], row-major; only the bases are looked at
  kCount
};

// One kernel on all its rows. Rows, index and start are in the device's memory; `ew` and `map` in the host's.
template <class T>
struct Launch {
  Operation operation = Operation::kEw;
  int64_t rows = 0;
  std::vector<Source<T>> in;
  std::vector<Target<T>> out;
  const EwProgram* ew = nullptr;              // kEw
  const int32_t* map = nullptr;               // kMap: `cols` numbers
  int64_t cols = 0;                           // kMap, kColumnSums, kTranspose
  int64_t first = 0, last = 0;                // kTranspose
  int64_t groups = 0, length = 0;             // kReduce, kSoft, kPick, kOneHot
  Reduction reduction = Reduction::kSum;
  Soft soft = Soft::kSoftmax;
  double temperature = 1;                     // kSoft
  bool wrap = false;                          // kPick
  double on = 1, off = 0;                     // kOneHot
  int64_t m = 0, n = 0, k = 0;                // kBdot, kGemm
  bool turn_a = false, turn_b = false;        // kBdot, kGemm
  int64_t lda = 0, ldb = 0, ldc = 0;          // kGemm; lda 0: one row that stands for all
  T beta = T(0);                              // kColumnSums, kGemm
};

constexpr size_t kMostOperands = 64;  // sources, and targets, of a launch

// Throws Error kProgram for a launch that no kernel can run.
template <class T>
void check_launch(const Launch<T>& launch);

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  virtual int32_t lanes() const = 0;

  // Aligned to 64 bytes or more. No lane may still use what is freed: synchronise() before. These two, from any thread.
  virtual void* alloc(size_t bytes) = 0;
  virtual void free(void* block) = 0;

  virtual void upload(int32_t lane, void* device, const void* host, size_t bytes) = 0;
  virtual void download(int32_t lane, void* host, const void* device, size_t bytes) = 0;
  virtual void copy(int32_t lane, void* to, const void* from, size_t bytes) = 0;  // within the device

  virtual void launch(int32_t lane, const Launch<float>& launch) = 0;
  virtual void launch(int32_t lane, const Launch<double>& launch) = 0;

  virtual void events(int32_t count) = 0;  // there are events 0 ... count - 1, or more
  virtual void record(int32_t lane, int32_t event) = 0;
  virtual void wait(int32_t lane, int32_t event) = 0;
  virtual void stamp(int32_t lane, int64_t* when) = 0;  // steady_ns() when the lane comes here
  virtual void stop() = 0;                 // what was given and has not begun is passed over, as far as the device can
  virtual void synchronise() = 0;          // returns when all lanes have run what they were given
};

std::unique_ptr<Backend> make_cpu_backend(int32_t lanes);

// Of the library that native/cuda.py builds. Throws Error kInternal where it cannot be opened, kMemory or kInternal with
// CUDA's own words where the device refuses.
std::unique_ptr<Backend> make_cuda_backend(const char* library, int32_t device, int32_t lanes);

}  // namespace rg
