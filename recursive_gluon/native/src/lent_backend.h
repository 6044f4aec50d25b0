// The backends that runs share.
#pragma once

#include <memory>
#include <mutex>

#include "backend.h"

namespace rg {

// A backend takes calls from one thread at a time: who uses it holds the mutex, from the first call until the lanes have
// come to rest.
struct LentBackend {
  explicit LentBackend(std::unique_ptr<Backend> made) : backend(std::move(made)) {}
  std::mutex mutex;
  std::unique_ptr<Backend> backend;
};

// On the processor (`library` null) one of the run's own: threads cost little, and a process that forks keeps none. Of a
// device the one that was made first: its streams, handles and programs stay.
std::shared_ptr<LentBackend> lend_backend(const char* library, int32_t device, int32_t lanes);

// A small product, from the host and back. Throws what the device says, and Error kInternal where it is wrong.
void try_backend(LentBackend& lent);

}  // namespace rg
