// What the C interface and the MXNet binding share.
#pragma once

#include "run.h"

#ifndef RG_API
#define RG_API __attribute__((visibility("default")))
#endif

namespace rg {

// The arguments of a run; the same layout as RunArgs of runtime/core/binding.py.
struct RunArgs {
  const std::shared_ptr<const Structure>* structure;
  const void** field_data;
  const int64_t *field_types, *field_cols;
  const int64_t* ints;
  int64_t max_depth, max_nodes;
  int64_t recompute;        // 0: nothing; kEachBatch; else so many frames at once
  int32_t num_fields, num_ints, returns_nodes, trace;
  int32_t lanes;            // 0: the workers; else so many lanes of a backend
  const char* lane_library; // of the CUDA backend; null: the processor
  const void** field_device;  // fields in the lanes' memory, null for what is not there; or null
  int32_t device, resident;   // resident: all that a run is given and gives back lies in the lanes' memory
  int32_t chunks;           // whether a large forest may be cut into chunks; the run has no plan of its own then
};
constexpr int64_t kEachBatch = -1;

std::unique_ptr<Run> make_run(const std::shared_ptr<const Program>& program, const RunArgs& args);

void note_error() noexcept;  // the exception being handled becomes this thread's last error

template <class Body>
int guarded(Body body) noexcept {
  try {
    body();
    return 0;
  } catch (...) {
    note_error();
    return -1;
  }
}

}  // namespace rg
