// What a run does with a backend beside its instructions: memory, copies, zeros, rows that are gathered, gradients that are
// given to the caller, on lane 0; waiting for the lanes.
#pragma once

#include <deque>
#include <map>

#include "device_buffer.h"
#include "execute.h"
#include "interrupt.h"
#include "lent_backend.h"

namespace rg {

template <class T>
class LaneWork {
 protected:
  // `resident`: what the caller gives and gets lies in the backend's memory.
  LaneWork(std::shared_ptr<LentBackend> lent, bool resident)
      : lent_(std::move(lent)), backend_(*lent_->backend), resident_(resident) {
    adding_.cols = 1;
    adding_.inputs = {{0, false}, {1, false}};
    adding_.code = {{EwOp::add, 0, 1, -1, 0.0}};
    adding_.outputs = {{2, 0}};
    adding_.apart = {0};  // it is read and written
    adding_.prepare();
  }

  // Runs `body` with the backend to itself, until the lanes have come to rest.
  template <class Body>
  void hold(Body body) {
    LongRun here;
    std::lock_guard<std::mutex> guard(lent_->mutex);
    try {
      body();
      settle();
    } catch (...) {  // what lanes use stays until they have come to rest
      try {
        backend_.stop();
        settle();
      } catch (const Error&) {  // the first error is on its way
      }
      throw;
    }
  }

  // Waits for all lanes; then what was held for them goes.
  void settle() {
    backend_.synchronise();
    numbers_.clear();
    rooms_.clear();
    lists_.clear();
  }

  // What `give` gives to a lane, noted where that is asked for.
  template <class Give>
  void timed(bool trace, int32_t batch, int32_t step, int32_t lane, Give give) {
    if (!trace) return give();
    noted_.push_back({batch, step, lane, 0, 0});
    Span& span = noted_.back();
    backend_.stamp(lane, &span.begin_ns);
    give();
    backend_.stamp(lane, &span.end_ns);
  }
  void take_spans(std::vector<std::vector<Span>>& to) {
    to.resize(static_cast<size_t>(backend_.lanes()));
    for (const Span& span : noted_) to[static_cast<size_t>(span.worker)].push_back(span);
    noted_.clear();
  }

  // -- memory until settle() --------------------
  std::vector<T>& numbers(int64_t count) {  // of the host's
    numbers_.emplace_back(static_cast<size_t>(count));
    return numbers_.back();
  }
  T* room(int64_t count) {
    rooms_.emplace_back();
    rooms_.back().reserve(backend_, count);
    return rooms_.back().data();
  }
  const int64_t* list(Ids ids) {
    lists_.push_back({std::move(ids), {}});
    List& made = lists_.back();
    put(made.there, made.here.data(), static_cast<int64_t>(made.here.size()));
    return made.there.data();
  }

  // -- to the backend --------------------
  static size_t bytes_of(int64_t count) { return static_cast<size_t>(count) * sizeof(T); }

  template <class N>
  void put(DeviceBuffer<N>& to, const N* from, int64_t count) {  // from the host's memory
    if (count == 0) return;
    to.reserve(backend_, count);
    backend_.upload(0, to.data(), from, static_cast<size_t>(count) * sizeof(N));
  }
  void bring(T* to, const void* from, int64_t count) {  // from the caller's
    if (count > 0 && resident_) backend_.copy(0, to, from, bytes_of(count));
    else if (count > 0) backend_.upload(0, to, from, bytes_of(count));
  }
  // Where lanes read what is the caller's: a copy, unless it is in their memory and stays as it is.
  const T* placed(DeviceBuffer<T>& copy, const void* from, int64_t count, bool changes) {
    if (resident_ && !changes) return static_cast<const T*>(from);
    copy.reserve(backend_, count);
    bring(copy.data(), from, count);
    return copy.data();
  }

  void zero(T* to, int64_t count) {
    Launch<T> l;  // sums of no rows
    l.operation = Operation::kColumnSums;
    l.cols = count;
    l.in = {{to, count, nullptr, nullptr}};
    l.out = {{to, count}};
    if (count > 0) backend_.launch(0, l);
  }
  // Rows that are gathered or summed, one after another.
  void gather(const Source<T>& rows, int64_t count, int64_t cols, T* to) {
    EwProgram& copying = copying_[cols];
    if (copying.outputs.empty()) {
      copying.cols = static_cast<int32_t>(cols);
      copying.inputs = {{0, false}};
      copying.outputs = {{0, 0}};
      copying.prepare();
    }
    Launch<T> l;
    l.rows = count;
    l.in = {rows};
    l.out = {{to, cols}};
    l.ew = &copying;
    if (count * cols > 0) backend_.launch(0, l);
  }

  // -- to the caller --------------------
  static bool asked(const Gradient& grad) { return grad.req != Req::kNull && grad.data != nullptr; }
  bool in_place(const Gradient& grad) const { return resident_ && asked(grad) && grad.req != Req::kAdd; }
  // Where a gradient is made: where it is wanted, if lanes write there, else in a block of the run's.
  T* made_at(DeviceBuffer<T>& block, const Gradient& grad, int64_t count) {
    if (in_place(grad)) return static_cast<T*>(grad.data);
    block.reserve(backend_, count);
    return block.data();
  }
  // Gives what was made elsewhere.
  void take(const Gradient& grad, const T* from, int64_t count) {
    if (!asked(grad) || in_place(grad) || count == 0) return;
    T* to = static_cast<T*>(grad.data);
    if (grad.req == Req::kAdd) {
      T* sum = to;
      if (!resident_) bring(sum = room(count), to, count);
      Launch<T> l;
      l.rows = count;
      l.in = {{sum, 1, nullptr, nullptr}, {from, 1, nullptr, nullptr}};
      l.out = {{sum, 1}};
      l.ew = &adding_;
      backend_.launch(0, l);
      from = sum;
    }
    if (!resident_) backend_.download(0, to, from, bytes_of(count));
  }
  // Rows that are gathered or summed, one after another.
  void fetch(const Source<T>& rows, int64_t count, int64_t cols, const Gradient& to) {
    if (!asked(to) || count * cols == 0) return;
    T* at = in_place(to) ? static_cast<T*>(to.data) : room(count * cols);
    gather(rows, count, cols, at);
    take(to, at, count * cols);
  }

 private:
  std::shared_ptr<LentBackend> lent_;  // the run's buffers give their memory back to it

 protected:
  Backend& backend_;
  const bool resident_;

 private:
  std::map<int64_t, EwProgram> copying_;  // by columns
  EwProgram adding_;
  std::deque<std::vector<T>> numbers_;
  std::deque<DeviceBuffer<T>> rooms_;
  struct List {
    Ids here;
    DeviceBuffer<int64_t> there;
  };
  std::deque<List> lists_;
  std::deque<Span> noted_;
};

}  // namespace rg
