// What the workers are given: batches forward and backward, sums over all rows, copies.
#pragma once

#include <cstring>

#include "instructions.h"

namespace rg {

template <class T>
class Typed<T>::Forward final : public Job {
 public:
  Forward(Typed& e, size_t first, size_t last)
      : e_(e), first_(first), batches_(static_cast<int32_t>(last - first)), after_(last - first) {
    if (first == 0) after_.resize(after_.size() + e.copies_.size());
    for (size_t b = first; b < last; ++b)
      for (int32_t next : e.plan_.batches[b].after)
        if (next < static_cast<int32_t>(last)) after_[b - first].push_back(next - static_cast<int32_t>(first));
    e.spans.resize(kMostWorkers);
  }
  int32_t chains() const override { return static_cast<int32_t>(after_.size()); }
  int32_t waits(int32_t c) const override { return c < batches_ ? batch(c).waits : 0; }
  const std::vector<int32_t>& after(int32_t c) const override { return after_[c]; }
  int32_t steps(int32_t c) const override { return c < batches_ ? static_cast<int32_t>(code(c).size()) : 1; }
  int64_t tiles(int32_t c, int32_t step) override {
    if (c >= batches_) return (e_.copies_[c - batches_].size + kCopy - 1) / kCopy;
    return e_.tiles(batch(c), code(c)[step]);
  }
  void tile(int32_t c, int32_t step, int64_t tile, int32_t worker) override {
    if (c >= batches_) {
      const Copy& copy = e_.copies_[c - batches_];
      int64_t n = std::min(kCopy, copy.size - tile * kCopy);
      std::memcpy(copy.to + tile * kCopy, *copy.used + tile * kCopy, static_cast<size_t>(n) * sizeof(T));
      return;
    }
    Timed timed(e_, c + static_cast<int32_t>(first_), step, worker);
    e_.execute(batch(c), code(c)[step], batch(c).stop - batch(c).start, tile, worker);
  }

 private:
  const Batch& batch(int32_t c) const { return e_.plan_.batches[first_ + c]; }
  const std::vector<Instr>& code(int32_t c) const { return e_.p_.segments[batch(c).segment].forward; }
  static constexpr int64_t kCopy = 1 << 15;
  Typed& e_;
  size_t first_;
  int32_t batches_;
  std::vector<std::vector<int32_t>> after_;
};

// The batches in reverse; with `recompute`, each computes its kept rows anew and sums them at once. Without, the sums over
// all rows may follow, a chain for each shared value, which waits for the batches of the segments that it sums over.
template <class T>
class Typed<T>::Backward final : public Job {
 public:
  Backward(Typed& e, bool rows, bool sums) : e_(e), batches_(rows ? static_cast<int32_t>(e.plan_.batches.size()) : 0),
                                             after_(batches_), waits_(batches_, 0) {
    int32_t n = batches_;
    for (int32_t b = 0; b < n; ++b) {
      if (e.recompute) {  // one after another: their sums go to the same places
        if (b > 0) after_[b].push_back(b - 1);
        waits_[b] = b + 1 < n;
        continue;
      }
      waits_[b] = static_cast<int32_t>(e.plan_.batches[b].after.size());
      for (int32_t next : e.plan_.batches[b].after) after_[next].push_back(b);
    }
    if (sums) add_sums();
  }
  int32_t chains() const override { return static_cast<int32_t>(after_.size()); }
  int32_t waits(int32_t c) const override { return waits_[c]; }
  const std::vector<int32_t>& after(int32_t c) const override { return after_[c]; }
  int32_t steps(int32_t c) const override {
    if (c >= batches_) return static_cast<int32_t>(sums_[c - batches_]->size());
    const Segment& s = segment(c);
    size_t steps = s.backward.size() + (e_.recompute ? s.forward.size() + s.over.size() : 0);
    return static_cast<int32_t>(steps);
  }
  int64_t tiles(int32_t c, int32_t step) override {
    if (c >= batches_) return tiles_of_sum(*(*sums_[c - batches_])[step].instr);
    const Instr& i = instr(c, step);
    return i.code >= Code::kGemmRows && e_.grads_->shared[i.out[0].id].req == Req::kNull
               ? 0 : e_.tiles(batch(c), i);
  }
  void tile(int32_t c, int32_t step, int64_t tile, int32_t worker) override {
    if (c >= batches_) {
      const Sum& sum = (*sums_[c - batches_])[step];
      Timed timed(e_, -1 - sum.segment, 2000, worker);
      return e_.sum(sum.segment, *sum.instr, 0, e_.plan_.segment_size[sum.segment], tile, sum.begin);
    }
    Timed timed(e_, c, 1000 + step, worker);
    const Batch& b = batch(c);
    const Instr& i = instr(c, step);
    if (i.code < Code::kGemmRows) e_.execute(b, i, b.stop - b.start, tile, worker);
    else e_.sum(b.segment, i, e_.first_saved(b), b.stop - b.start, tile, false);
  }

 private:
  const Batch& batch(int32_t c) const { return e_.plan_.batches[c]; }
  const Segment& segment(int32_t c) const { return e_.p_.segments[batch(c).segment]; }
  const Instr& instr(int32_t c, int32_t step) const {
    const Segment& s = segment(c);
    size_t at = static_cast<size_t>(step);
    if (!e_.recompute) return s.backward[at];
    if (at < s.forward.size()) return s.forward[at];
    at -= s.forward.size();
    return at < s.backward.size() ? s.backward[at] : s.over[at - s.backward.size()];
  }
  // Batches of one segment and shard run in order: a sum waits for the last of each, the first of the forward.
  void add_sums() {
    std::vector<std::vector<int32_t>> ends(e_.p_.segments.size());
    std::vector<uint8_t> seen(e_.p_.segments.size() * static_cast<size_t>(e_.plan_.shards + 1), 0);
    for (int32_t b = 0; b < batches_; ++b) {
      size_t s = static_cast<size_t>(batch(b).segment);
      uint8_t& known = seen[s * static_cast<size_t>(e_.plan_.shards + 1) + static_cast<size_t>(batch(b).shard)];
      if (!known) ends[s].push_back(b);
      known = 1;
    }
    std::vector<int32_t> waiting(e_.p_.segments.size(), -1);  // which sum a segment's batches know last
    for (const auto& list : e_.sums_) {
      if (list.empty()) continue;
      int32_t chain = static_cast<int32_t>(after_.size());
      sums_.push_back(&list);
      after_.emplace_back();
      waits_.push_back(0);
      for (const Sum& sum : list) {
        if (waiting[sum.segment] == chain) continue;
        waiting[sum.segment] = chain;
        for (int32_t b : ends[sum.segment]) after_[b].push_back(chain);
        waits_[chain] += static_cast<int32_t>(ends[sum.segment].size());
      }
    }
  }

  Typed& e_;
  int32_t batches_;
  std::vector<std::vector<int32_t>> after_;
  std::vector<int32_t> waits_;
  std::vector<const std::vector<Sum>*> sums_;
};

template <class T>
class Typed<T>::Turning final : public Job {
 public:
  Turning(Typed& e, const std::vector<Turn>& turns) : e_(e), turns_(turns) {}
  int32_t chains() const override { return static_cast<int32_t>(turns_.size()); }
  int32_t waits(int32_t) const override { return 0; }
  const std::vector<int32_t>& after(int32_t) const override { return none_; }
  int32_t steps(int32_t) const override { return 1; }
  int64_t tiles(int32_t c, int32_t) override { return (turns_[c].cols + kColumns - 1) / kColumns; }
  void tile(int32_t c, int32_t, int64_t tile, int32_t) override {
    const Turn& t = turns_[c];
    e_.k_.transpose(t.from, t.rows, t.cols, tile * kColumns, std::min((tile + 1) * kColumns, t.cols), t.to);
  }

 private:
  static constexpr int64_t kColumns = 64;
  Typed& e_;
  const std::vector<Turn>& turns_;
  std::vector<int32_t> none_;
};

}  // namespace rg
