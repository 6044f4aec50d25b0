// Ctrl-C during a run on a thread that is not the main one, such as MXNet's: Python would handle the signal only after
// the run, because its main thread waits for the run.
#pragma once

#include <cstdint>

namespace rg {

bool on_main_thread();

// While one exists, SIGINT is counted before the handler that was there gets it.
class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
  // Whether SIGINT came since the watch began or this was last true.
  bool interrupted();

 private:
  uint32_t seen_;
};

}  // namespace rg
