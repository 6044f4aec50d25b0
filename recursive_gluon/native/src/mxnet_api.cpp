// Runs on NDArrays in the caller's thread, and their gradients on MXNet's tape. Through MXNet's C API alone, whose binary
// interface is stable; why this way is in docs/design/0005.
#include <mxnet/c_api.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "api.h"

namespace rg {
namespace {

void want(int result) {
  if (result != 0) throw Error(Kind::kMxnet, MXGetLastError());
}

void* data_of(NDArrayHandle array) {
  void* data = nullptr;
  want(MXNDArrayGetData(array, &data));
  return data;
}

// Data of an array that others may still be writing.
const void* ready(NDArrayHandle array) {
  want(MXNDArrayWaitToRead(array));
  return data_of(array);
}

std::mutex g_mutex;
std::string g_failed;  // what the last backward said that failed

// A run on the tape: what its gradient needs, until MXNet lets go of it.
struct Recorded {
  std::unique_ptr<Run> run;
  std::vector<NDArrayHandle> alive;     // what the run reads, held
  std::vector<int32_t> part, index;     // of each input on the tape: shared, table, field or argument; its number
  int64_t counts[4] = {0, 0, 0, 0};
  MXCallbackList callbacks{};
  int (*functions[2])(void) = {nullptr, nullptr};
  void* contexts[2] = {nullptr, nullptr};

  ~Recorded() {
    for (NDArrayHandle handle : alive) MXNDArrayFree(handle);
  }
};

int backward(int num_ograds, int num_igrads, void** arrays, const int* reqs, const int, void* state) {
  Recorded& r = *static_cast<Recorded*>(state);
  int ok = 1;
  try {
    Outputs out;
    for (int i = 0; i < num_ograds; ++i) out.ograds.push_back(data_of(arrays[i]));
    std::vector<Gradient>* parts[] = {&out.shared, &out.tables, &out.fields, &out.args};
    for (int p = 0; p < 4; ++p) parts[p]->resize(static_cast<size_t>(r.counts[p]));
    for (int i = 0; i < num_igrads; ++i) {
      Req req = static_cast<Req>(reqs[i]);
      (*parts[r.part[i]])[r.index[i]] = {req == Req::kNull ? nullptr : data_of(arrays[num_ograds + i]), req};
    }
    r.run->execution->backward(out);
  } catch (const std::exception& error) {
    std::lock_guard<std::mutex> guard(g_mutex);
    g_failed = error.what();
    ok = 0;
  }
  for (int i = 0; i < num_ograds + num_igrads; ++i) MXNDArrayFree(arrays[i]);
  return ok;
}

int forget(void* state) {
  delete static_cast<Recorded*>(state);
  return 1;
}

}  // namespace

// The same layout as CallArgs of runtime/core/calls.py; arrays of NDArray handles.
struct CallArgs {
  NDArrayHandle *shared, *tables, *args, *outs;
  int32_t num_shared, num_tables, num_args, num_outs;
  int32_t looked_up, record;
  uint64_t seed;
  // on the tape
  NDArrayHandle* inputs;
  const int32_t *part, *index;
  int32_t num_inputs, num_fields;
};

}  // namespace rg

using namespace rg;

extern "C" {

// Runs `run` and, where asked to, records it; the tape then owns the run, and *taken is 1.
RG_API int rg_call(void* run, const CallArgs* a, int32_t* taken) {
  *taken = 0;
  return guarded([&] {
    Run& r = *static_cast<Run*>(run);
    Inputs in;
    for (int32_t i = 0; i < a->num_shared; ++i) in.shared.push_back(ready(a->shared[i]));
    for (int32_t i = 0; i < a->num_tables; ++i) in.tables.push_back(ready(a->tables[i]));
    for (int32_t i = 0; i < a->num_args; ++i) in.args.push_back(ready(a->args[i]));
    in.looked_up = a->looked_up != 0;
    in.snapshot = a->record != 0;
    in.seed = a->seed;
    r.execution->forward(in);
    for (int32_t j = 0; j < a->num_outs; ++j) r.execution->output(j, data_of(a->outs[j]));
    if (!a->record) return;
    auto recorded = std::make_unique<Recorded>();
    auto hold = [&](NDArrayHandle handle) {
      NDArrayHandle copy = nullptr;
      want(MXNDArrayDetach(handle, &copy));
      recorded->alive.push_back(copy);
    };
    for (int32_t i = 0; i < a->num_shared; ++i) hold(a->shared[i]);
    for (int32_t i = 0; i < a->num_tables; ++i) hold(a->tables[i]);
    recorded->part.assign(a->part, a->part + a->num_inputs);
    recorded->index.assign(a->index, a->index + a->num_inputs);
    recorded->counts[0] = a->num_shared;
    recorded->counts[1] = a->num_tables;
    recorded->counts[2] = a->num_fields;
    recorded->counts[3] = a->num_args;
    for (int32_t i = 0; i < a->num_inputs; ++i)
      check(a->part[i] >= 0 && a->part[i] < 4 && a->index[i] >= 0 && a->index[i] < recorded->counts[a->part[i]],
            Kind::kInternal, "an input on the tape");
    recorded->functions[kCustomFunctionBackward] = reinterpret_cast<int (*)(void)>(backward);
    recorded->functions[kCustomFunctionDelete] = reinterpret_cast<int (*)(void)>(forget);
    recorded->contexts[0] = recorded->contexts[1] = recorded.get();
    recorded->callbacks = {2, recorded->functions, recorded->contexts};
    recorded->run.reset(&r);
    Recorded* owned = recorded.release();  // MXNet's tape deletes it, at once where recording fails
    *taken = 1;
    want(MXCustomFunctionRecord(a->num_inputs, a->inputs, a->num_outs, a->outs, &owned->callbacks));
  });
}

// What a backward that failed said; empty text where none did since the last time.
RG_API void rg_backward_failure(char* to, int64_t room) {
  std::lock_guard<std::mutex> guard(g_mutex);
  size_t n = std::min(g_failed.size(), static_cast<size_t>(room - 1));
  g_failed.copy(to, n);
  to[n] = 0;
  g_failed.clear();
}

}  // extern "C"
