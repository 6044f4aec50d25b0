#include "arrays.h"

#include <algorithm>
#include <numeric>

#include "host_rows.h"

namespace rg {
namespace {

// When segments run. A run's steps: 0 before all batches, 1 + b forward of batch b, the turn, then the batches in reverse,
// and last the sums over all rows. What forward leaves for backward lives until the end: a gradient may be asked for again.
class Times {
 public:
  explicit Times(const Plan& plan)
      : shards_(plan.shards), batches_(static_cast<int64_t>(plan.batches.size())),
        first_(plan.program.segments.size() * static_cast<size_t>(shards_ + 1), -1), last_(first_) {
    for (int64_t b = 0; b < batches_; ++b) {
      const Batch& batch = plan.batches[b];
      size_t at = index(batch.segment, batch.shard);
      if (first_[at] < 0) first_[at] = b;
      last_[at] = b;
    }
  }
  int64_t turn() const { return 1 + batches_; }
  int64_t over() const { return 2 + 2 * batches_; }

  // Visits the first and last batch of each user in each shard, or in one.
  template <class Visit>
  void each(const std::vector<int32_t>& users, int32_t shard, Visit visit) const {
    for (int32_t s : users)
      for (int32_t k = shard < 0 ? 0 : shard; k <= (shard < 0 ? shards_ : shard); ++k)
        if (size_t at = index(s, k); first_[at] >= 0) visit(first_[at], last_[at], k);
  }
  // Their steps forward and backward; `end` < 0: they do not run.
  Life life(const std::vector<int32_t>& users, int32_t shard, bool backward) const {
    int64_t low = batches_, high = -1;
    bool common = true;
    each(users, shard, [&](int64_t first, int64_t last, int32_t k) {
      low = std::min(low, first);
      high = std::max(high, last);
      common = common && k == shards_;
    });
    Life life;
    life.begin = backward ? 1 + 2 * batches_ - high : 1 + low;
    life.end = high < 0 ? -1 : backward ? 1 + 2 * batches_ - low : 1 + high;
    life.shard = common || shards_ == 1 ? Life::kCommon : shard >= 0 ? shard : Life::kSeveral;
    return life;
  }

 private:
  size_t index(int32_t segment, int32_t shard) const {
    return static_cast<size_t>(segment) * static_cast<size_t>(shards_ + 1) + static_cast<size_t>(shard);
  }
  int32_t shards_;
  int64_t batches_;
  std::vector<int64_t> first_, last_;
};

bool has(const std::vector<int32_t>& list, int32_t id) { return std::find(list.begin(), list.end(), id) != list.end(); }

}  // namespace

void find_uses(Program& p) {
  auto add = [](std::vector<int32_t>& list, int32_t s) {
    if (list.empty() || list.back() != s) list.push_back(s);
  };
  for (size_t n = 0; n < p.segments.size(); ++n) {
    Segment& segment = p.segments[n];
    int32_t s = static_cast<int32_t>(n);
    segment.self = {s};
    segment.temp_uses.assign(segment.temps.size(), 0);
    segment.saved_uses.assign(segment.saved.size(), 0);
    segment.slot_uses.assign(segment.slots.size(), 0);
    auto note = [&](const std::vector<Instr>& code, Use use) {
      for (const Instr& i : code)
        for (const auto* operands : {&i.in, &i.out})
          for (const Operand& o : *operands) {
            if (o.place == Place::kTemp) segment.temp_uses[o.id] |= use;
            if (o.place == Place::kSaved) segment.saved_uses[o.id] |= use;
            if (o.place == Place::kSlot) segment.slot_uses[o.id] |= use;
            if (o.place == Place::kOut && use == kBackward) p.ports[segment.out_ports[o.id]].read_back = true;
          }
    };
    note(segment.forward, kForward);
    note(segment.backward, kBackward);
    note(segment.over, kOver);
    for (size_t k = 0; k < segment.slots.size(); ++k) {
      const Slot& slot = segment.slots[k];
      if (slot.port < 0) continue;
      add(p.ports[slot.port].users, s);
      add(p.ports[slot.port].given_users, s);
      if (segment.slot_uses[k] & kBackward) p.ports[slot.port].read_back = true;
    }
    for (int32_t port : segment.out_ports) {
      add(p.ports[port].users, s);
      add(p.ports[port].given_users, s);
    }
  }
}

std::vector<Array> arrays_of(const Plan& plan, bool recompute) {
  const Program& p = plan.program;
  const Times times(plan);
  bool keeps = plan.keeps(), again = keeps && recompute;
  std::vector<Array> arrays;
  auto put = [&](What what, size_t id, size_t segment, int32_t shard, int64_t size, const Life& life,
                 const std::vector<int32_t>* users) {
    Array a;
    a.what = what;
    a.id = static_cast<int32_t>(id);
    a.segment = static_cast<int32_t>(segment);
    a.shard = shard;
    a.life = life;
    a.life.size = size;
    a.users = users;
    arrays.push_back(a);
  };
  // From the uses of what belongs to a segment.
  auto life_of = [&](const Segment& segment, uint8_t uses, int32_t shard, bool stays) {
    if (again && (uses & kForward)) uses |= kBackward;
    Life forward = times.life(segment.self, shard, false), backward = times.life(segment.self, shard, true);
    Life life = uses & kForward ? forward : backward;
    bool late = (uses & kForward && stays) || (uses & kOver && !again);
    if (keeps && (uses & ~kForward)) life.end = late ? times.over() : backward.end;
    return life;
  };
  const Function& root = p.functions[p.root];
  for (size_t i = 0; i < p.ports.size(); ++i) {
    const Port& port = p.ports[i];
    Life life = times.life(port.users, -1, false);
    life.begin = 0;  // row 0, arguments
    life.end = keeps && (port.read_back || again) ? times.over()
               : has(root.out_ports, static_cast<int32_t>(i)) ? times.turn() : std::max<int64_t>(life.end, 0);
    put(What::kPort, i, 0, -1, plan.layout_size[port.layout] * port.cols, life, &port.users);
  }
  for (size_t s = 0; s < p.segments.size(); ++s) {
    const Segment& segment = p.segments[s];
    int64_t all = plan.segment_size[s];
    if (all == 0) continue;
    const std::vector<int64_t>& largest = plan.largest[s];
    uint8_t seen = keeps ? kForward | kBackward | kOver : kForward;
    // With `recompute` the batches of a shard share their rows; shards have rows of their own.
    int64_t rows = recompute ? std::accumulate(largest.begin(), largest.end(), int64_t(0)) : all;
    for (size_t i = 0; i < segment.saved.size(); ++i)
      if (uint8_t uses = segment.saved_uses[i] & seen)
        put(What::kSaved, i, s, -1, rows * segment.saved[i], life_of(segment, uses, -1, !recompute), &segment.self);
    for (size_t shard = 0; shard < largest.size(); ++shard)
      for (size_t i = 0; i < segment.temps.size() && largest[shard] > 0; ++i)
        if (uint8_t uses = segment.temp_uses[i] & seen) {
          int32_t k = static_cast<int32_t>(shard);
          put(What::kTemp, i, s, k, largest[shard] * segment.temps[i], life_of(segment, uses, k, false), &segment.self);
        }
    for (size_t i = 0; i < segment.slots.size(); ++i) {
      if (!is_made(segment.slots[i])) continue;
      Life life = life_of(segment, kForward | (segment.slot_uses[i] & seen), -1, true);
      life.begin = 0;
      put(What::kMade, i, s, -1, all * segment.slots[i].cols, life, &segment.self);
    }
  }
  if (!keeps || !plan.finished()) return arrays;
  for (size_t i = 0; i < p.ports.size(); ++i) {
    const Port& port = p.ports[i];
    int32_t id = static_cast<int32_t>(i);
    if (!port.floating || plan.port_readers[i].size <= 1) continue;
    Life life = times.life(port.given_users, -1, true);
    bool outside = std::any_of(plan.outside.begin(), plan.outside.end(), [&](const Outside& o) { return o.port == id; });
    if (life.end < 0 || has(root.out_ports, id)) life.begin = times.turn();  // what the caller gives is put there
    if (life.end < 0 || outside) life.end = times.over();
    put(What::kGivenPort, i, 0, -1, plan.port_readers[i].size * port.cols, life, &port.given_users);
  }
  for (size_t i = 0; i < p.field_cols.size(); ++i) {
    if (plan.field_readers[i].size <= 1) continue;
    Life life;
    life.begin = times.turn();
    life.end = times.over();
    put(What::kGivenField, i, 0, -1, plan.field_readers[i].size * p.field_cols[i], life, nullptr);
  }
  return arrays;
}

Arena arena_of(const Plan& plan, const std::vector<Array>& arrays, int64_t align) {
  std::vector<Life> lives;
  lives.reserve(arrays.size());
  for (const Array& a : arrays) lives.push_back(a.life);
  return lay_out(lives, Times(plan).turn(), align);
}

void take_turns(Plan& plan, const std::vector<Array>& arrays, const Arena& arena) {
  const Times times(plan);
  auto wait = [&](int64_t before, int64_t b) {
    auto& after = plan.batches[before].after;
    if (has(after, static_cast<int32_t>(b))) return;
    after.push_back(static_cast<int32_t>(b));
    ++plan.batches[b].waits;
  };
  std::vector<int32_t> order(arrays.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return arena.offset[a] < arena.offset[b]; });
  for (size_t i = 0; i < order.size(); ++i) {
    int64_t stop = arena.offset[order[i]] + arrays[order[i]].life.size;
    for (size_t j = i + 1; j < order.size() && arena.offset[order[j]] < stop; ++j) {
      const Array *first = &arrays[order[i]], *then = &arrays[order[j]];
      if (first->life.begin > then->life.begin) std::swap(first, then);
      if (first->life.end <= times.turn() && times.turn() <= then->life.begin) continue;
      bool backward = first->life.end > times.turn();
      times.each(*first->users, first->shard, [&](int64_t first_used, int64_t last_used, int32_t) {
        times.each(*then->users, then->shard, [&](int64_t first_use, int64_t last_use, int32_t) {
          if (backward) wait(last_use, first_used);  // backward runs the other way round
          else wait(last_used, first_use);
        });
      });
    }
  }
}

Footprint footprint(const Plan& plan, bool recompute, int64_t align) {
  Footprint bytes;
  std::vector<Array> arrays = arrays_of(plan, recompute);
  for (const Array& a : arrays) bytes.apart += (a.life.size + align - 1) / align * align;
  bytes.without_reuse = bytes.apart;
  for (const Port& port : plan.program.ports)
    bytes.without_reuse += (plan.layout_rows[port.layout] - plan.layout_size[port.layout]) * port.cols;
  bytes.block = arena_of(plan, arrays, align).size;
  for (int64_t* count : {&bytes.block, &bytes.apart, &bytes.without_reuse}) *count *= plan.program.scalar;
  return bytes;
}

}  // namespace rg
