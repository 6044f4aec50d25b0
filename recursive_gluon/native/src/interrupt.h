// Ctrl-C during a long run. On Python's main thread Python is asked. On another, such as MXNet's, Python would handle the
// signal only after the run, because its main thread waits for the run: there signals are counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace rg {

// Asked now and then during a long run: nonzero ends it with Error kInterrupt.
using Poll = int (*)();
void set_poll(Poll poll);

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

// Asks for Ctrl-C while it lives. One inside another on the same thread is the other, so that many short runs are one long
// run.
class LongRun {
 public:
  LongRun();
  ~LongRun();
  LongRun(const LongRun&) = delete;
  LongRun& operator=(const LongRun&) = delete;
  bool interrupted();  // looks every 100 ms
  void check();        // throws Error kInterrupt

 private:
  LongRun* outer_;
  std::chrono::steady_clock::time_point asked_;
  std::optional<InterruptWatch> watch_;
};

}  // namespace rg
