#include "workers.h"

#include <pthread.h>
#include <sched.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "common.h"
#include "interrupt.h"

namespace rg {
namespace {

std::atomic<int32_t> g_count{0};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class SpinLock {
 public:
  void lock() {
    for (int spins = 0; flag_.exchange(true, std::memory_order_acquire); ++spins)
      spins < 256 ? pause() : std::this_thread::yield();
  }
  void unlock() { flag_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> flag_{false};
};

// Asks for turns of 0.1 ms in place of some 3 ms: a thread with short turns takes the core at once when it is woken, where
// a busy one, such as the caller's Python thread during a gradient, would have kept it for milliseconds. Linux from 6.12 on;
// older ones take no notice. The thread's share of the core stays the same.
void take_short_turns() {
#if defined(__linux__) && defined(SYS_sched_getattr)
  struct Attributes {  // the kernel's sched_attr
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 || attributes.policy != SCHED_OTHER) return;
  attributes.size = sizeof attributes;
  attributes.runtime = 100000;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
}

// One job while it runs. Workers claim tiles of active chains; whoever finishes a step's last tile moves on the chain. A
// worker stays with its chain, and goes on with one that waited for it: what it reads next is in its own cache.
class Run {
 public:
  Run(Job& job, int32_t workers) : job_(job), state_(job.chains()), worker_(workers), left_(job.chains()) {
    for (int32_t c = 0; c < job.chains(); ++c) {
      state_[c].waits = job.waits(c);
      if (state_[c].waits == 0) activate(c);
    }
    settle(0);
  }

  bool over() const { return over_.load(std::memory_order_acquire); }

  // Claims and runs one tile; false where there is none to claim now.
  bool work(int32_t worker) {
    int32_t chain = -1, step = 0;
    int64_t tile = 0;
    if (claimable_.load(std::memory_order_acquire) == 0) return false;  // idle workers leave the lock alone
    {
      std::lock_guard<SpinLock> guard(lock_);
      if (over()) return false;
      chain = choose(worker);
      if (chain < 0) return false;
      State& s = state_[chain];
      step = s.step;
      tile = s.next++;
      claimable_.fetch_sub(1, std::memory_order_relaxed);
      worker_[worker] = {chain, true};
    }
    try {
      job_.tile(chain, step, tile, worker);
    } catch (...) {
      std::lock_guard<SpinLock> guard(lock_);
      if (!error_) error_ = std::current_exception();
    }
    std::lock_guard<SpinLock> guard(lock_);
    worker_[worker].busy = false;
    State& s = state_[chain];
    if (--s.left == 0) {
      ++s.step;
      begin(chain);
      settle(worker);
    }
    return true;
  }

  void stop(std::exception_ptr error) {
    std::lock_guard<SpinLock> guard(lock_);
    if (!error_) error_ = error;
  }
  std::exception_ptr error() const { return error_; }

 private:
  struct State {
    int32_t waits = 0, step = 0;
    int64_t tiles = 0, next = 0, left = 0;
    bool claimable() const { return next < tiles; }
  };
  struct Worker {
    int32_t chain = -1;
    bool busy = false;
  };

  // The worker's own chain; else one that nobody is about to go on with; -1 for none.
  int32_t choose(int32_t worker) const {
    int32_t own = worker_[worker].chain;
    if (own >= 0 && state_[own].claimable()) return own;
    for (int32_t c : active_) {
      if (!state_[c].claimable()) continue;
      bool taken = state_[c].tiles - state_[c].next == 1 &&
                   std::any_of(worker_.begin(), worker_.end(), [c](const Worker& w) { return w.chain == c && !w.busy; });
      if (!taken) return c;
    }
    return -1;
  }

  void activate(int32_t c) {
    active_.push_back(c);
    begin(c);
  }

  // The chain's next step that has tiles; else the chain is done.
  void begin(int32_t c) {
    State& s = state_[c];
    int32_t steps = error_ ? 0 : job_.steps(c);
    for (; s.step < steps; ++s.step) {
      int64_t tiles = job_.tiles(c, s.step);
      if (tiles > 0) {
        s.next = 0;
        s.tiles = s.left = tiles;
        claimable_.fetch_add(tiles, std::memory_order_release);
        return;
      }
    }
    done_.push_back(c);
  }

  void settle(int32_t worker) {
    for (size_t i = 0; i < done_.size(); ++i) {  // grows while it is walked
      int32_t c = done_[i];
      --left_;
      active_.erase(std::find(active_.begin(), active_.end(), c));
      for (int32_t next : job_.after(c))
        if (next < static_cast<int32_t>(state_.size()) && --state_[next].waits == 0) {
          if (worker_[worker].chain == c) worker_[worker].chain = next;
          activate(next);
        }
    }
    done_.clear();
    if (left_ == 0 || (error_ && idle())) over_.store(true, std::memory_order_release);
  }

  bool idle() const {
    for (int32_t c : active_)
      if (state_[c].left > state_[c].tiles - state_[c].next) return false;  // tiles that were claimed and still run
    return true;
  }

  Job& job_;
  SpinLock lock_;
  std::vector<State> state_;
  std::vector<Worker> worker_;
  std::vector<int32_t> active_, done_;
  int32_t left_;
  std::exception_ptr error_;
  std::atomic<bool> over_{false};
  std::atomic<int64_t> claimable_{0};
};

// Threads that help whoever runs a job; one job at a time gets their help, others run alone.
class Pool {
 public:
  bool try_help(Run* run, int32_t helpers) {
    if (!busy_.try_lock()) return false;
    std::unique_lock<std::mutex> guard(mutex_);
    enlist(helpers);
    keep_away(helpers);
    run_ = run;
    wanted_ = helpers;
    turn_.fetch_add(1, std::memory_order_release);
    bool asleep = asleep_ > 0;
    guard.unlock();
    if (asleep) wake_.notify_all();
    return true;
  }

  void release() {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      run_ = nullptr;
    }
    while (inside_.load(std::memory_order_acquire) > 0) pause();
    busy_.unlock();
  }

  void expect(int32_t helpers) {
    std::unique_lock<std::mutex> guard(mutex_);
    enlist(helpers);
    keep_away(helpers);
    ++expected_;
    bool asleep = asleep_ > 0;
    guard.unlock();
    if (asleep) wake_.notify_all();
  }

 private:
  static constexpr int kAwake = 20000;  // pauses that a helper waits for an expected run: some 300 us

  void enlist(int32_t helpers) {
    while (static_cast<int32_t>(threads_.size()) < helpers) {
      int32_t worker = static_cast<int32_t>(threads_.size()) + 1;
      std::thread thread([this, worker] { loop(worker); });
      threads_.push_back(thread.native_handle());
      thread.detach();
      avoided_ = -1;
    }
  }

  // Helpers leave the caller its core. Linux often wakes a thread on the core of whoever woke it, where it would wait for
  // milliseconds for the caller to come to an end, with another core idle.
  void keep_away(int32_t helpers) {
#ifdef __linux__
    int core = sched_getcpu();
    if (core < 0 || core >= CPU_SETSIZE || core == avoided_) return;
    avoided_ = core;
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0 || !CPU_ISSET(core, &cores)) return;
    CPU_CLR(core, &cores);
    if (CPU_COUNT(&cores) < helpers) return;
    for (pthread_t thread : threads_) pthread_setaffinity_np(thread, sizeof cores, &cores);
#else
    static_cast<void>(helpers);
#endif
  }

  void loop(int32_t worker) {
    SignalsHeld here;
    pthread_setname_np(pthread_self(), ("rg-worker-" + std::to_string(worker)).c_str());
    take_short_turns();
    uint64_t seen = 0, expected = 0;
    for (;;) {
      Run* run = nullptr;
      {
        std::unique_lock<std::mutex> guard(mutex_);
        auto called = [&] { return turn_.load() != seen && run_ != nullptr && worker <= wanted_; };
        ++asleep_;
        wake_.wait(guard, [&] { return called() || expected != expected_; });
        --asleep_;
        expected = expected_;
        if (called()) {
          seen = turn_.load();
          run = run_;
          inside_.fetch_add(1, std::memory_order_acq_rel);
        }
      }
      if (run == nullptr) {  // a run is expected: wait for it awake, then look again
        for (int i = 0; i < kAwake && turn_.load(std::memory_order_acquire) == seen; ++i)
          (i & 255) != 255 ? pause() : std::this_thread::yield();  // to MXNet's threads, if they want the core
        continue;
      }
      int idle = 0;
      while (!run->over()) {
        if (run->work(worker)) idle = 0;
        else if (++idle < 4096) pause();
        else std::this_thread::yield();
      }
      inside_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  std::mutex mutex_, busy_;
  std::condition_variable wake_;
  std::vector<pthread_t> threads_;
  int avoided_ = -1;
  Run* run_ = nullptr;
  int32_t wanted_ = 0, asleep_ = 0;
  uint64_t expected_ = 0;
  std::atomic<uint64_t> turn_{0};
  std::atomic<int32_t> inside_{0};
};

// Never destroyed: its threads live as long as the process. A child of fork() has none of them and gets a new pool.
Pool* g_pool = nullptr;
std::mutex g_pool_mutex;

Pool& pool() {
  std::lock_guard<std::mutex> guard(g_pool_mutex);
  if (g_pool == nullptr) {
    g_pool = new Pool;
    static bool registered = false;
    if (!registered) {
      registered = true;
      pthread_atfork([] { g_pool_mutex.lock(); }, [] { g_pool_mutex.unlock(); },
                     [] { g_pool = nullptr; g_pool_mutex.unlock(); });
    }
  }
  return *g_pool;
}

int32_t from_environment() {
  for (const char* name : {"RECURSIVE_GLUON_WORKERS", "OMP_NUM_THREADS"})
    if (const char* text = std::getenv(name)) {
      int value = std::atoi(text);
      if (value > 0) return std::min(value, kMostWorkers);
    }
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::min(std::max(cores, 1), kMostWorkers);
}

}  // namespace

int32_t worker_count() {
  int32_t count = g_count.load();
  if (count == 0) g_count.store(count = from_environment());
  return count;
}
void set_worker_count(int32_t count) { g_count.store(std::min(std::max(count, 1), kMostWorkers)); }

void expect_run() {
  if (worker_count() > 1) pool().expect(worker_count() - 1);
}

void run(Job& job, int32_t workers) {
  Run run(job, workers);
  bool helped = workers > 1 && !run.over() && pool().try_help(&run, workers - 1);
  LongRun here;
  int idle = 0;
  uint32_t rounds = 0;
  while (!run.over()) {
    if (run.work(0)) idle = 0;
    else if (++idle < 4096) pause();
    else std::this_thread::yield();
    if ((++rounds & 63) == 0 && here.interrupted())
      run.stop(std::make_exception_ptr(Error(Kind::kInterrupt, "interrupted")));
  }
  if (helped) pool().release();
  if (run.error()) std::rethrow_exception(run.error());
}

}  // namespace rg
