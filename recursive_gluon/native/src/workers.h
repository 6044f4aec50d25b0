// The parallel scheduler: chains of steps on worker threads. A chain is ready when the chains before it have come to
// their end; a step is cut into tiles, which idle workers claim, so that chains run beside one another and a wide
// step on several workers. How a step is cut never depends on the number of workers: the same bits for any number.
#pragma once

#include <cstdint>
#include <vector>

namespace rg {

class Job {
 public:
  virtual ~Job() = default;
  virtual int32_t chains() const = 0;
  virtual int32_t waits(int32_t chain) const = 0;  // chains that must end before
  virtual const std::vector<int32_t>& after(int32_t chain) const = 0;
  virtual int32_t steps(int32_t chain) const = 0;
  virtual int64_t tiles(int32_t chain, int32_t step) = 0;
  virtual void tile(int32_t chain, int32_t step, int64_t tile, int32_t worker) = 0;
};

int32_t worker_count();          // RECURSIVE_GLUON_WORKERS, else OMP_NUM_THREADS, else the cores
void set_worker_count(int32_t);  // at least 1
constexpr int32_t kMostWorkers = 64;

// Wakes the helpers for a run that is about to come: they wait for it awake, a moment.
void expect_run();

// Runs a job to its end on up to `workers` threads, the caller's included. Rethrows the first exception of a tile.
void run(Job& job, int32_t workers);

}  // namespace rg
