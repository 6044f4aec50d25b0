// Backends one call at a time, for the tests.
#include "api.h"
#include "backend.h"
#include "issue.h"

using namespace rg;

namespace {

// A Launch without its types; the same layout as LaunchArgs of tests/native/backends.py.
struct LaunchArgs {
  int32_t operation, bytes;
  int64_t rows, sources, targets;
  const void *in, *out;  // Source<T>[sources], Target<T>[targets]
  const EwProgram* ew;
  const int32_t* map;
  int64_t cols, first, last, groups, length, m, n, k, lda, ldb, ldc;
  int32_t reduction, soft, wrap, turn_a, turn_b, unused;
  double temperature, on, off, beta;
};

template <class T>
Launch<T> launch_of(const LaunchArgs& a) {
  const Source<T>* in = static_cast<const Source<T>*>(a.in);
  const Target<T>* out = static_cast<const Target<T>*>(a.out);
  Launch<T> l;
  l.operation = static_cast<Operation>(a.operation);
  l.rows = a.rows;
  l.in.assign(in, in + a.sources);
  l.out.assign(out, out + a.targets);
  l.ew = a.ew;
  l.map = a.map;
  l.cols = a.cols, l.first = a.first, l.last = a.last;
  l.groups = a.groups, l.length = a.length;
  l.m = a.m, l.n = a.n, l.k = a.k;
  l.lda = a.lda, l.ldb = a.ldb, l.ldc = a.ldc;
  l.reduction = static_cast<Reduction>(a.reduction);
  l.soft = static_cast<Soft>(a.soft);
  l.wrap = a.wrap != 0, l.turn_a = a.turn_a != 0, l.turn_b = a.turn_b != 0;
  l.temperature = a.temperature, l.on = a.on, l.off = a.off;
  l.beta = static_cast<T>(a.beta);
  return l;
}

void launch(Backend& backend, int32_t lane, const LaunchArgs& a) {
  if (a.bytes == 8) backend.launch(lane, launch_of<double>(a));
  else backend.launch(lane, launch_of<float>(a));
}

}  // namespace

extern "C" {

// `library` null: the processor; else the CUDA backend's library.
RG_API Backend* rg_test_backend_new(const char* library, int32_t lanes) {
  Backend* made = nullptr;
  guarded([&] {
    made = (library == nullptr ? make_cpu_backend(lanes) : make_cuda_backend(library, 0, lanes)).release();
  });
  return made;
}
RG_API void rg_test_backend_free(Backend* backend) { delete backend; }

RG_API void* rg_test_backend_alloc(Backend* backend, int64_t bytes) {
  void* made = nullptr;
  guarded([&] { made = backend->alloc(static_cast<size_t>(bytes)); });
  return made;
}
RG_API int rg_test_backend_release(Backend* backend, void* block) {
  return guarded([&] { backend->free(block); });
}

// kind 0: upload, 1: download, 2: copy.
RG_API int rg_test_backend_copy(Backend* backend, int32_t kind, int32_t lane, void* to, const void* from, int64_t bytes) {
  return guarded([&] {
    size_t n = static_cast<size_t>(bytes);
    if (kind == 0) backend->upload(lane, to, from, n);
    else if (kind == 1) backend->download(lane, to, from, n);
    else backend->copy(lane, to, from, n);
  });
}
RG_API int rg_test_backend_launch(Backend* backend, int32_t lane, const LaunchArgs* a) {
  return guarded([&] { launch(*backend, lane, *a); });
}
RG_API int rg_test_backend_record(Backend* backend, int32_t lane, int32_t event) {
  return guarded([&] { backend->record(lane, event); });
}
RG_API int rg_test_backend_synchronise(Backend* backend) {
  return guarded([&] { backend->synchronise(); });
}

// Chain c of the plan is launches[start[c]], ..., launches[start[c + 1] - 1]. Does not wait for their end.
RG_API int rg_test_backend_issue(Backend* backend, const LanePlan* plan, const int64_t* start, const LaunchArgs* launches) {
  return guarded([&] {
    issue(*plan, *backend, [&](int32_t chain, int32_t lane) {
      for (int64_t i = start[chain]; i < start[chain + 1]; ++i) launch(*backend, lane, launches[i]);
    });
  });
}

// Inputs are pairs (source, cell), code is (operator, a, b, c), outputs are pairs (value, target).
RG_API EwProgram* rg_test_program_new(int32_t cols, int32_t inputs, const int32_t* input, int32_t steps, const int32_t* code,
                                      const double* scalars, int32_t outputs, const int32_t* output) {
  EwProgram* made = nullptr;
  guarded([&] {
    auto p = std::make_unique<EwProgram>();
    p->cols = cols;
    for (int32_t i = 0; i < inputs; ++i) p->inputs.push_back({input[2 * i], input[2 * i + 1] != 0});
    for (int32_t i = 0; i < steps; ++i) {
      const int32_t* e = code + 4 * i;
      p->code.push_back({static_cast<EwOp>(e[0]), e[1], e[2], e[3], scalars[i]});
    }
    for (int32_t i = 0; i < outputs; ++i) p->outputs.push_back({output[2 * i], output[2 * i + 1]});
    p->prepare();
    made = p.release();
  });
  return made;
}
RG_API void rg_test_program_free(EwProgram* program) { delete program; }

}  // extern "C"
