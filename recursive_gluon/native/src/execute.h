// A plan's batches as numbers: forward, backward, sums over all rows.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "arrays.h"
#include "memory.h"
#include "plan.h"
#include "workers.h"

namespace rg {

// Where a run's numbers come from and go to; pointers of the caller.
struct Inputs {
  std::vector<const void*> shared;        // shared inputs
  std::vector<const void*> tables;        // embedding tables
  bool snapshot = false;                  // copy what backward will read: the caller may write it before then
  std::vector<const void*> args;          // tensors for the roots, a row a tree
  uint64_t seed = 0;
};

struct Wanted {
  int32_t index;  // an output of the root function
  void* to;
};

enum class Req : int32_t { kNull = 0, kWrite = 1, kInplace = 2, kAdd = 3 };
struct Gradient {
  void* data = nullptr;
  Req req = Req::kNull;
};
struct Outputs {
  std::vector<const void*> ograds;        // of the root's outputs; null: zero
  std::vector<Gradient> shared, tables, fields, args;
};

// A sum over all rows of a segment, into the gradient of a shared value.
struct Sum {
  int32_t segment;
  const Instr* instr;
  bool begin = false;  // the first, which writes
};
// By shared value, in order, of those that are asked for. Throws Error kProgram for a gradient of a computed value.
std::vector<std::vector<Sum>> sums_of(const Plan& plan, const Outputs& outputs);

// For explain(): what ran when on which worker.
struct Span {
  int32_t batch, step, worker;            // or lane; step: instruction; backward ones count from 1000, sums from 2000
  int64_t begin_ns, end_ns;
};

class Execution {
 public:
  virtual ~Execution() = default;
  virtual void forward(const Inputs& inputs) = 0;           // all rounds
  virtual void output(int32_t index, void* to) = 0;         // rows of an output
  virtual void forward_into(const Inputs& inputs, const std::vector<Wanted>& wanted) {  // both
    forward(inputs);
    for (const Wanted& one : wanted) output(one.index, one.to);
  }
  virtual void use_rows(const std::vector<const void*>& rows) = 0;  // what was looked up, in place of the tables
  virtual void backward(const Outputs& outputs) = 0;        // once
  // The same in two steps: what belongs to rows, and the sums over all rows; `outputs` must live until the second.
  virtual void backward_rows(const Outputs& outputs) { backward(outputs); }
  virtual void backward_sums() {}
  virtual int64_t lookups(int32_t table) const = 0;         // rows that are looked up; before forward where
  virtual void looked_up(int32_t table, int32_t* to) const = 0;  // structure alone decides
  virtual int64_t bytes() = 0;                              // borrowed by this run, at its peak
  virtual Footprint planned() { return {}; }                // what it will borrow; zero where values decide, or nobody knows
  bool recompute = false;
  bool alone = false;                                       // without helpers
  bool trace = false;
  std::vector<std::vector<Span>> spans;                     // by worker, or lane
};

double microseconds(const Instr& i, double rows);  // of one core, roughly

// `plan` has had its rounds if structure alone decides; else forward() makes them.
std::unique_ptr<Execution> make_execution(Plan& plan);

}  // namespace rg
