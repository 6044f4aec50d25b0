// Ctrl-C during a long run. On Python's main thread Python is asked. On another, such as MXNet's, Python would handle the
// signal only after the run, because its main thread waits for the run: there signals are counted.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace rg {

// Asked now and then during a long run: sets what it is given, which is 1, to 0 where the run is not to end with Error
// kInterrupt. (So it is 1 if Python raises before the first line of the function is reached.)
using Poll = void (*)(int*);
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

// Keeps signals off a thread while it lives, but those that tell of the thread's own faults. oneDNN's kernels let the stack
// pointer point into memory of theirs: a handler that runs then writes over the heap.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;
  void let_in();  // handlers of what came since run now

 private:
  sigset_t before_;
};

// Keeps signals off, and asks for Ctrl-C, while it lives. One inside another on the same thread is the other, so that
// many short runs are one long run.
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
  std::optional<SignalsHeld> signals_;
};

}  // namespace rg
