// Lanes on the processor: each is a thread with a queue, events are counters.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "backend.h"
#include "blas.h"
#include "common.h"
#include "interrupt.h"
#include "memory.h"

namespace rg {
namespace {

template <class T>
void perform(const Launch<T>& l, T* scratch) {
  const Kernels<T>& k = kernels<T>();
  const Source<T>* in = l.in.data();
  const Target<T>* out = l.out.data();
  switch (l.operation) {
    case Operation::kEw: return k.ew(*l.ew, in, out, l.rows, scratch);
    case Operation::kMap: return k.map(in[0], l.map, l.cols, out[0], l.rows, scratch);
    case Operation::kReduce: return k.reduce(l.reduction, in[0], l.groups, l.length, out[0], l.rows, scratch);
    case Operation::kSoft:
      return k.soft(l.soft, l.temperature, in[0], l.groups, l.length, out[0], l.rows, scratch);
    case Operation::kBdot:
      return k.bdot(in[0], l.turn_a, in[1], l.turn_b, l.m, l.n, l.k, out[0], l.rows, scratch);
    case Operation::kPick: return k.pick(in[0], in[1], l.wrap, l.groups, l.length, out[0], l.rows, scratch);
    case Operation::kOneHot: return k.one_hot(in[0], l.on, l.off, l.groups, l.length, out[0], l.rows, scratch);
    case Operation::kColumnSums:
      for (int64_t c = 0; c < l.cols; ++c) out[0].base[c] = l.beta == T(0) ? T(0) : l.beta * out[0].base[c];
      return k.column_sums(in[0].base, in[0].stride, l.rows, l.cols, out[0].base);
    case Operation::kTranspose: return k.transpose(in[0].base, l.rows, l.cols, l.first, l.last, out[0].base);
    case Operation::kGemm:
      return gemm<T>(l.turn_a, l.turn_b, l.m, l.n, l.k, in[0].base, l.lda, in[1].base, l.ldb, l.beta, out[0].base, l.ldc);
    case Operation::kCount: break;  // check_launch refuses it
  }
}

// The first error of the lanes; while there is one, they only pass on events.
class Failure {
 public:
  bool seen() {
    std::lock_guard<std::mutex> guard(mutex_);
    return error_ != nullptr;
  }
  void note(std::exception_ptr error) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (error_ == nullptr) error_ = error;
  }
  void rethrow() {
    std::exception_ptr error;
    {
      std::lock_guard<std::mutex> guard(mutex_);
      std::swap(error, error_);
    }
    if (error != nullptr) std::rethrow_exception(error);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

class Lane {
 public:
  using Task = std::function<void(Lane&)>;

  Lane() : thread_([this] { work(); }) {}
  ~Lane() {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void give(Task task) {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
  }
  // Whether the lane comes to rest within some time.
  bool rests(std::chrono::milliseconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, time, [&] { return tasks_.empty() && !busy_; });
  }

  // Room for a kernel, aligned for vectors.
  template <class T>
  T* scratch() {
    scratch_.reserve(kScratch);
    return reinterpret_cast<T*>(scratch_.data());
  }

 private:
  void work() {
    SignalsHeld here;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !tasks_.empty() || closed_; });
      if (tasks_.empty()) return;
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      busy_ = true;
      lock.unlock();
      task(*this);
      task = nullptr;
      lock.lock();
      busy_ = false;
      if (tasks_.empty()) changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool busy_ = false, closed_ = false;
  Buffer<double> scratch_;
  std::thread thread_;  // last: it uses the others
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int32_t lanes) {
    for (int32_t l = 0; l < lanes; ++l) lanes_.push_back(std::make_unique<Lane>());
  }

  const char* name() const override { return "CPU"; }
  int32_t lanes() const override { return static_cast<int32_t>(lanes_.size()); }
  void* alloc(size_t bytes) override { return borrow(bytes); }
  void free(void* block) override { give_back(block); }

  void upload(int32_t lane, void* device, const void* host, size_t bytes) override { copy(lane, device, host, bytes); }
  void download(int32_t lane, void* host, const void* device, size_t bytes) override { copy(lane, host, device, bytes); }
  void copy(int32_t lane, void* to, const void* from, size_t bytes) override {
    if (bytes > 0) give(lane, [=](Lane&) { std::memcpy(to, from, bytes); });
  }
  void launch(int32_t lane, const Launch<float>& launch) override { enqueue(lane, launch); }
  void launch(int32_t lane, const Launch<double>& launch) override { enqueue(lane, launch); }

  void events(int32_t count) override {
    std::lock_guard<std::mutex> guard(mutex_);
    if (static_cast<size_t>(count) > events_.size()) events_.resize(static_cast<size_t>(count));
  }
  void record(int32_t lane, int32_t event) override {
    Lane& on = at_lane(lane);
    int64_t number = ++at(event).given;
    on.give([this, event, number](Lane&) {
      {
        std::lock_guard<std::mutex> guard(mutex_);
        events_[event].passed = std::max(events_[event].passed, number);
      }
      passed_.notify_all();
    });
  }
  void wait(int32_t lane, int32_t event) override {
    int64_t number = at(event).given;
    at_lane(lane).give([this, event, number](Lane&) {
      std::unique_lock<std::mutex> lock(mutex_);
      passed_.wait(lock, [&] { return events_[event].passed >= number; });
    });
  }
  void stamp(int32_t lane, int64_t* when) override {
    give(lane, [when](Lane&) { *when = steady_ns(); });
  }
  void stop() override { failure_.note(std::make_exception_ptr(Error(Kind::kInterrupt, "interrupted"))); }
  void synchronise() override {
    LongRun here;
    for (auto& lane : lanes_)
      while (!lane->rests(std::chrono::milliseconds(50)))
        if (here.interrupted()) stop();
    failure_.rethrow();
  }

 private:
  struct Event {
    int64_t given = 0, passed = 0;  // records: how many were handed over, the latest that has run
  };

  Event& at(int32_t event) {  // `given` is the caller's alone
    std::lock_guard<std::mutex> guard(mutex_);
    if (event < 0 || static_cast<size_t>(event) >= events_.size())
      throw Error(Kind::kInternal, "event " + std::to_string(event) + " of " + std::to_string(events_.size()) +
                                       "; ask for it with events() first");
    return events_[event];
  }
  Lane& at_lane(int32_t lane) {
    if (lane < 0 || lane >= lanes())
      throw Error(Kind::kInternal, "lane " + std::to_string(lane) + " of " + std::to_string(lanes()));
    return *lanes_[lane];
  }
  template <class Task>
  void give(int32_t lane, Task task) {
    at_lane(lane).give([this, task](Lane& on) {
      if (failure_.seen()) return;
      try {
        task(on);
      } catch (...) {
        failure_.note(std::current_exception());
      }
    });
  }
  template <class T>
  void enqueue(int32_t lane, const Launch<T>& launch) {
    check_launch(launch);
    give(lane, [launch](Lane& on) { perform(launch, on.scratch<T>()); });
  }

  std::mutex mutex_;
  std::condition_variable passed_;
  std::deque<Event> events_;  // they stay where they are when more are added
  Failure failure_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // last: their threads use the others
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int32_t lanes) {
  check(lanes >= 1, Kind::kProgram, "a backend needs at least one lane");
  return std::make_unique<CpuBackend>(lanes);
}

}  // namespace rg
