// What every part of the core uses: errors that reach Python, and small helpers.
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace rg {

// Errors by kind; Python raises the class of errors.py that belongs to each (see runtime/native_binding.py).
enum class Kind : int32_t {
  kOk = 0,
  kProgram = 1,      // the encoded program is not one that the core can run
  kArity = 2,        // a child or a node was asked for that is not there
  kDepth = 3,        // calls nested too deep, or waiting for one another
  kVisit = 4,        // nodes=True and a node that is not visited exactly once
  kIndex = 5,        // an index outside of its table
  kUnseen = 6,       // a decision without an arm
  kRaise = 7,        // a path on which the user's code raises
  kMemory = 8,       // an allocation failed
  kInterrupt = 9,    // Ctrl-C
  kMxnet = 10,       // MXNet's C API said no
  kCount = 11,       // more frames than max_nodes
  kInternal = 12,
};

struct Error : std::runtime_error {
  Kind kind;
  Error(Kind kind, const std::string& what) : std::runtime_error(what), kind(kind) {}
};

inline int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline void check(bool ok, Kind kind, const char* what) {
  if (!ok) throw Error(kind, what);
}

}  // namespace rg
