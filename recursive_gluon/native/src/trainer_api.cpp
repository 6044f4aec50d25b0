// The update of all dense parameters as one operation of MXNet's engine.
#include <mxnet/c_api.h>

#include <memory>
#include <vector>

#include "api.h"
#include "kernels.h"
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

// The arrays of a trainer's parameters, held: weight, gradient, first and second state (null where there is none).
struct Arrays {
  Optimizer kind;
  std::vector<NDArrayHandle> held[4];
  std::vector<int64_t> sizes;
  ~Arrays() {
    for (auto& list : held)
      for (NDArrayHandle handle : list)
        if (handle != nullptr) MXNDArrayFree(handle);
  }
};

struct Step {
  std::shared_ptr<Arrays> arrays;
  std::vector<Rates> rates;
  std::vector<float*> data[4];
};

void apply(void*, void* param) {
  const Step& step = *static_cast<Step*>(param);
  UpdateKernel kernel = update_kernel();
  for (size_t i = 0; i < step.rates.size(); ++i)
    kernel(step.arrays->kind, step.rates[i], step.arrays->sizes[i], step.data[0][i], step.data[1][i], step.data[2][i],
           step.data[3][i]);
}

void drop(void* param) { delete static_cast<Step*>(param); }

void want(int result) {
  if (result != 0) throw Error(Kind::kMxnet, MXGetLastError());
}

}  // namespace
}  // namespace rg

using namespace rg;

extern "C" {

// `handles`: weights, gradients, first states, second states, `count` each.
RG_API void* rg_trainer_new(int32_t kind, int32_t count, NDArrayHandle* handles, const int64_t* sizes) {
  void* made = nullptr;
  guarded([&] {
    check(kind >= 0 && kind <= 3, Kind::kProgram, "an optimizer");
    auto arrays = std::make_shared<Arrays>();
    arrays->kind = static_cast<Optimizer>(kind);
    arrays->sizes.assign(sizes, sizes + count);
    for (int part = 0; part < 4; ++part)
      for (int32_t i = 0; i < count; ++i) {
        NDArrayHandle copy = nullptr;
        if (handles[part * count + i] != nullptr) want(MXNDArrayDetach(handles[part * count + i], &copy));
        arrays->held[part].push_back(copy);
      }
    made = new std::shared_ptr<Arrays>(std::move(arrays));
  });
  return made;
}
RG_API void rg_trainer_free(void* trainer) { delete static_cast<std::shared_ptr<Arrays>*>(trainer); }

// `rates`: seven numbers a parameter, in the order of Rates.
RG_API int rg_trainer_step(void* trainer, const float* rates, int32_t dev_id) {
  return guarded([&] {
    auto step = std::make_unique<Step>();
    step->arrays = *static_cast<std::shared_ptr<Arrays>*>(trainer);
    Arrays& a = *step->arrays;
    size_t count = a.sizes.size();
    for (size_t i = 0; i < count; ++i) {
      const float* r = rates + 7 * i;
      step->rates.push_back({r[0], r[1], r[2], r[3], r[4], r[5], r[6]});
    }
    std::vector<NDArrayHandle> reads, writes;
    for (int part = 0; part < 4; ++part)
      for (NDArrayHandle handle : a.held[part]) {
        void* data = nullptr;  // taken here: inside of the engine MXNet might have to wait for itself
        if (handle != nullptr) {
          want(MXNDArrayGetData(handle, &data));
          (part == 1 ? reads : writes).push_back(handle);
        }
        step->data[part].push_back(static_cast<float*>(data));
      }
    struct { int32_t type, id; } context{1, dev_id};  // mxnet::Context on the CPU
    Step* owned = step.release();
    want(MXEnginePushSyncND(apply, owned, drop, &context, reads.data(), static_cast<int>(reads.size()), writes.data(),
                            static_cast<int>(writes.size()), nullptr, 0, "recursive_gluon_update"));
  });
}

}  // extern "C"
