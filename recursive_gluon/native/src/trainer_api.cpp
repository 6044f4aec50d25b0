// A trainer's step: one operation of MXNet's engine for all dense gradients, MXNet's own operator for each row_sparse
// one. Through MXNet's C API alone.
#include <dlpack/dlpack.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "api.h"
#include "kernels.h"
#include "mxnet_arrays.h"
#include "optimizers.h"

namespace rg {

#define RG_UPDATE_OF(isa)             \
  namespace isa {                     \
  extern const UpdateKernel kUpdate;  \
  }
RG_UPDATE_OF(baseline)
#ifndef RG_ONLY_BASELINE
RG_UPDATE_OF(avx2)
RG_UPDATE_OF(avx512)
#endif

UpdateKernel update_kernel() {
#ifndef RG_ONLY_BASELINE
  if (best_isa() == Isa::kAvx512) return avx512::kUpdate;
  if (best_isa() == Isa::kAvx2) return avx2::kUpdate;
#endif
  return baseline::kUpdate;
}

namespace {

// A parameter: weight, gradient, first and second state (null where there is none), held.
struct Entry {
  Optimizer kind;
  const char* op = nullptr;  // of a row_sparse gradient: its operator
  int64_t size = 0;
  NDArrayHandle held[4] = {nullptr, nullptr, nullptr, nullptr};
  ~Entry() {
    for (NDArrayHandle handle : held)
      if (handle != nullptr) MXNDArrayFree(handle);
  }
};

struct Trainer {
  std::vector<NDArrayHandle> weights;  // the caller's, who keeps them: they know whether gradients are fresh
  std::vector<std::shared_ptr<Entry>> dense, sparse;
};

struct Step {
  std::vector<std::pair<std::shared_ptr<Entry>, Rates>> jobs;
};

// Where an array's numbers are. For a worker of the engine: MXNDArrayGetData would wait, for ever, if MKL-DNN had laid
// the array out in its own way; this throws then.
float* plain(NDArrayHandle array) {
  if (array == nullptr) return nullptr;
  DLManagedTensorHandle lent = nullptr;
  if (MXNDArrayToDLPack(array, &lent) != 0)
    throw std::runtime_error(std::string("rg.Trainer: a parameter's layout was changed by another operation that nobody"
                                         " waited for before step(); wait for it: ") + MXGetLastError());
  auto* tensor = static_cast<DLManagedTensor*>(lent);
  char* at = static_cast<char*>(tensor->dl_tensor.data) + tensor->dl_tensor.byte_offset;
  MXNDArrayCallDLPackDeleter(lent);
  return reinterpret_cast<float*>(at);
}

// Exceptions go to the engine, which gives them to whoever reads the weights.
void apply(void*, void* param) {
  UpdateKernel kernel = update_kernel();
  for (const auto& [entry, rates] : static_cast<Step*>(param)->jobs) {
    float* at[4];
    for (int part = 0; part < 4; ++part) at[part] = plain(entry->held[part]);
    kernel(entry->kind, rates, entry->size, at[0], at[1], at[2], at[3]);
  }
}

void drop(void* param) { delete static_cast<Step*>(param); }

void push(const Trainer& trainer, const float* rates, int32_t dev_id) {
  auto step = std::make_unique<Step>();
  std::vector<NDArrayHandle> reads, writes;
  for (const auto& entry : trainer.dense) {
    const float* r = rates;
    rates += 7;
    step->jobs.push_back({entry, {r[0], r[1], r[2], r[3], r[4], r[5], r[6]}});
    void* data = nullptr;  // MKL-DNN's layout, if inference left it, is undone here, where waiting is allowed
    want(MXNDArrayWaitToRead(entry->held[0]));
    want(MXNDArrayGetData(entry->held[0], &data));
    reads.push_back(entry->held[1]);
    for (int part : {0, 2, 3})
      if (entry->held[part] != nullptr) writes.push_back(entry->held[part]);
  }
  struct { int32_t type, id; } context{1, dev_id};  // mxnet::Context on the CPU
  want(MXEnginePushSyncND(apply, step.release(), drop, &context, reads.data(), static_cast<int>(reads.size()),
                          writes.data(), static_cast<int>(writes.size()), nullptr, 0, "recursive_gluon_update"));
}

void invoke(const Entry& entry, int32_t options, const char** keys, const char** values) {
  void* op = nullptr;
  want(NNGetOpHandle(entry.op, &op));
  std::vector<NDArrayHandle> inputs;
  for (NDArrayHandle handle : entry.held)
    if (handle != nullptr) inputs.push_back(handle);
  NDArrayHandle out = entry.held[0];
  NDArrayHandle* outs = &out;
  int num_outs = 1;
  const int* types = nullptr;
  want(MXImperativeInvokeEx(op, static_cast<int>(inputs.size()), inputs.data(), &num_outs, &outs, options, keys, values,
                            &types));
}

const char* operator_of(Optimizer kind) {
  switch (kind) {
    case Optimizer::kMomentum: return "sgd_mom_update";
    case Optimizer::kAdam: return "adam_update";
    case Optimizer::kAdaGrad: return "_sparse_adagrad_update";
    default: return "sgd_update";
  }
}

}  // namespace
}  // namespace rg

using namespace rg;

extern "C" {

// A parameter each: its kind, whether its gradient is row_sparse, elements, and in `handles` weight, gradient, first and
// second state. The caller keeps the weights alive.
RG_API void* rg_trainer_new(int32_t count, const int64_t* kinds, const int64_t* sparse, const int64_t* sizes,
                            NDArrayHandle* handles) {
  void* made = nullptr;
  guarded([&] {
    auto trainer = std::make_unique<rg::Trainer>();
    for (int32_t i = 0; i < count; ++i) {
      check(kinds[i] >= 0 && kinds[i] < static_cast<int64_t>(Optimizer::kCount), Kind::kProgram, "an optimizer");
      auto entry = std::make_shared<Entry>();
      entry->kind = static_cast<Optimizer>(kinds[i]);
      entry->size = sizes[i];
      if (sparse[i]) entry->op = operator_of(entry->kind);
      for (int part = 0; part < 4; ++part)
        if (handles[4 * i + part] != nullptr) want(MXNDArrayDetach(handles[4 * i + part], &entry->held[part]));
      trainer->weights.push_back(handles[4 * i]);
      (sparse[i] ? trainer->sparse : trainer->dense).push_back(std::move(entry));
    }
    made = trainer.release();
  });
  return made;
}
RG_API void rg_trainer_free(void* trainer) { delete static_cast<rg::Trainer*>(trainer); }

// 1 if every parameter has a gradient since the last step, 0 if not, -1 after an error.
RG_API int rg_trainer_fresh(void* trainer) {
  int fresh = 1;
  int failed = guarded([&] {
    for (NDArrayHandle weight : static_cast<rg::Trainer*>(trainer)->weights) {
      int one = 0;
      want(MXNDArrayGetGradState(weight, &one));
      fresh &= one != 0;
    }
  });
  return failed ? -1 : fresh;
}

// `rates`: seven numbers a dense parameter, in the order of Rates. Row_sparse ones have `options` keys in common, and as
// many values each.
RG_API int rg_trainer_step(void* trainer, const float* rates, int32_t dev_id, int32_t options, const char** keys,
                           const char** values) {
  return guarded([&] {
    const rg::Trainer& t = *static_cast<rg::Trainer*>(trainer);
    for (NDArrayHandle weight : t.weights) want(MXNDArraySetGradState(weight, 0));
    if (!t.dense.empty()) push(t, rates, dev_id);
    for (size_t i = 0; i < t.sparse.size(); ++i) invoke(*t.sparse[i], options, keys, values + options * i);
  });
}

}  // extern "C"
