#include "plan.h"

#include <algorithm>
#include <numeric>

namespace rg {

Plan::Plan(const Program& p, const Forest& forest, int64_t max_depth, bool nodes, int64_t max_nodes, const Part* part,
           bool keep)
    : program(p), forest(forest), frames(p, forest, max_depth), layout_size(p.layouts, 1), layout_rows(p.layouts, 1),
      unit_row(p.layouts),
      segment_size(p.segments.size(), 0), largest(p.segments.size()), slots(p.segments.size()),
      segment_entries(p.segments.size()), nodes_(nodes), max_nodes_(max_nodes), part_(part), keep_(keep),
      last_batch_(p.segments.size()) {
  for (size_t s = 0; s < slots.size(); ++s) slots[s].resize(p.segments[s].slots.size());
}

Plan::Plan(const Program& p, const Forest& forest, const std::vector<int64_t>& ints, int64_t max_depth, bool nodes,
           int64_t max_nodes)
    : Plan(p, forest, max_depth, nodes, max_nodes, nullptr, p.keep) {
  roots = frames.start(ints);
  cover();
  const Function& root = p.functions[p.root];
  int64_t n = forest.trees;
  for (size_t a = 0; a < root.arg_ports.size(); ++a) {
    int64_t first = new_rows(p.ports[root.arg_ports[a]].layout, n);
    give(root.arg_ports[a], first, n, static_cast<int64_t>(a) * n);
  }
}

Plan::Plan(const Program& p, const Forest& forest, const Part& part, int64_t max_depth, bool keep)
    : Plan(p, forest, max_depth, false, 0, &part, keep) {
  roots = frames.start(part);
  cover();
  const Function& root = p.functions[p.root];
  int64_t n = static_cast<int64_t>(part.given.size());
  std::vector<int64_t> begin(p.layouts, 0);  // outputs of one layout lie in the same rows
  for (int32_t j : part.outputs) {
    int32_t layout = p.ports[root.out_ports[j]].layout;
    if (begin[layout] == 0) begin[layout] = new_rows(layout, n);
    give(root.out_ports[j], begin[layout], n, j * n);
  }
  std::fill_n(done_.begin(), static_cast<int64_t>(root.out_ports.size()) * n, 1);
}

int64_t Plan::new_rows(int32_t layout, int64_t rows) {
  layout_rows[layout] += rows;
  layout_size[layout] += rows;
  return layout_size[layout] - rows;
}

// Rows `first` ... of a port come from outside; they belong to the units from `first_unit` on.
void Plan::give(int32_t port, int64_t first, int64_t rows, int64_t first_unit) {
  for (int64_t i = 0; i < rows; ++i)
    unit_row[program.ports[port].layout][first_unit + i] = static_cast<int32_t>(first + i);
  std::fill_n(done_.begin() + first_unit, rows, 1);
  outside.push_back({port, first, rows});
}

void Plan::cover() {
  size_t units = frames.unit_segment.size();
  done_.resize(units, 0);
  unit_batch_.resize(units, -1);
  for (auto& column : unit_row) column.resize(units, -1);
}

// The units whose outputs a slot reads for an entry of the segment's block.
template <class Visit>
void Plan::each_source(int32_t s, const Slot& slot, int64_t entry, Visit visit) const {
  const Segment& segment = program.segments[s];
  switch (slot.kind) {
    case SlotKind::kValue: visit(frames.unit_of(slot.source, segment.block, entry)); break;
    case SlotKind::kArg: {
      int64_t frame = frames.block_frames[segment.block][entry];
      const FrameTable& table = frames.tables[segment.function];
      int64_t unit = table.arg_unit[slot.source][frame];
      if (unit < 0)  // carried: what the frame of the child before returned
        unit = table.out_unit[program.functions[segment.function].carried[slot.source]][frame - 1];
      visit(unit);
      break;
    }
    case SlotKind::kCall: case SlotKind::kSum: case SlotKind::kLast: {
      const Site& site = program.sites[slot.source];
      int64_t here = frames.entry_in(site.block, segment.block, entry);
      const Ids& out = frames.tables[site.callee].out_unit[slot.output];
      int64_t callee = frames.callee[slot.source][here];
      if (slot.kind == SlotKind::kCall) { visit(out[callee]); break; }
      int64_t count = frames.callee_count[slot.source][here];
      if (slot.kind == SlotKind::kLast) {
        check(count > 0, Kind::kArity, "the last child of a node without children");
        visit(out[callee + count - 1]);
        break;
      }
      for (int64_t k = 0; k < count; ++k) visit(out[callee + k]);
      break;
    }
    default: break;
  }
}

Plan::Edges Plan::edges(const Ids& units) const {
  Edges e;
  e.source.reserve(2 * units.size());
  e.destination.reserve(2 * units.size());
  for (int64_t unit : units) {
    int32_t s = frames.unit_segment[unit];
    int64_t entry = frames.unit_entry[unit];
    for (const Slot& slot : program.segments[s].slots)
      if (slot.same_as < 0)
        each_source(s, slot, entry, [&](int64_t source) {
          e.source.push_back(source);
          e.destination.push_back(unit);
        });
  }
  return e;
}

namespace {

// Values grouped by key: those of key k are values[start[k]] ... values[start[k + 1]].
struct Groups {
  Ids start, values;
  Groups(const Ids& key, const Ids& value, size_t size) : start(size + 1, 0), values() {
    for (int64_t k : key)
      if (k >= 0) ++start[k + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    values.resize(start.back());
    Ids at(start.begin(), start.end() - 1);
    for (size_t i = 0; i < key.size(); ++i)
      if (key[i] >= 0) values[at[key[i]]++] = value[i];
  }
};

}  // namespace

Ids Plan::ancestors(const Ids& goals, const Edges& e) const {
  Groups before(e.destination, e.source, done_.size());
  std::vector<uint8_t> seen(done_.size(), 0);
  Ids found, stack;
  for (int64_t goal : goals)
    if (!done_[goal] && !seen[goal]) { seen[goal] = 1; stack.push_back(goal); }
  while (!stack.empty()) {
    int64_t unit = stack.back();
    stack.pop_back();
    found.push_back(unit);
    for (int64_t i = before.start[unit]; i < before.start[unit + 1]; ++i) {
      int64_t source = before.values[i];
      if (source >= 0 && !done_[source] && !seen[source]) { seen[source] = 1; stack.push_back(source); }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Units that can run, by level, segment, shard and number; those that wait for something else are left out.
Plan::Levels Plan::levels(const Ids& units, const Edges& e) {
  std::vector<uint8_t> inside(done_.size(), 0);
  for (int64_t unit : units) inside[unit] = 1;
  std::vector<int32_t> waits(done_.size(), 0);
  Ids key(e.source);
  for (size_t i = 0; i < key.size(); ++i) {
    int64_t source = e.source[i], destination = e.destination[i];
    bool counts = inside[destination] && (source < 0 || !done_[source]);
    if (counts) ++waits[destination];
    if (!counts || source < 0 || !inside[source]) key[i] = -1;
  }
  Groups after(key, e.destination, done_.size());
  // Level by level first, then in order: how many levels there are decides how many shards.
  Ids reached, begin{0};
  for (int64_t unit : units)
    if (waits[unit] == 0) reached.push_back(unit);
  for (size_t at = 0; at < reached.size();) {
    size_t end = reached.size();
    begin.push_back(static_cast<int64_t>(end));
    for (; at < end; ++at)
      for (int64_t i = after.start[reached[at]]; i < after.start[reached[at] + 1]; ++i)
        if (--waits[after.values[i]] == 0) reached.push_back(after.values[i]);
  }
  size_t count = begin.size() - 1;
  if (rounds == 0 && asked_.empty() && count > 1)
    deal(static_cast<int64_t>(reached.size()) - begin[1], static_cast<int64_t>(count) - 1);
  Levels order;
  order.units.reserve(reached.size());
  std::vector<Ids> bucket(program.segments.size() * static_cast<size_t>(shards + 1));
  for (size_t level = 0; level < count; ++level) {
    int32_t common = shards > 1 ? shards : 0;
    for (int64_t i = begin[level]; i < begin[level + 1]; ++i) {
      int32_t shard = shards == 1 || level == 0 ? common : shard_of(reached[i]);
      bucket[frames.unit_segment[reached[i]] * (shards + 1) + shard].push_back(reached[i]);
    }
    for (size_t k = 0; k < bucket.size(); ++k) {
      if (bucket[k].empty()) continue;
      if (!std::is_sorted(bucket[k].begin(), bucket[k].end())) std::sort(bucket[k].begin(), bucket[k].end());
      order.units.insert(order.units.end(), bucket[k].begin(), bucket[k].end());
      order.level.resize(order.units.size(), static_cast<int64_t>(level));
      order.shard.resize(order.units.size(), static_cast<int32_t>(k % static_cast<size_t>(shards + 1)));
      bucket[k].clear();
    }
  }
  return order;
}

// How many shards, and whose each tree is: the largest trees first, each to the shard that has least.
void Plan::deal(int64_t units, int64_t levels) {
  constexpr int64_t kFew = 6, kMany = 24;  // rows of a level: below, a shard more costs more than it saves; for each shard
  constexpr int32_t kMost = 8;
  int64_t rows = units / levels;
  std::vector<int32_t> tree(static_cast<size_t>(forest.trees));
  std::iota(tree.begin(), tree.end(), 0);
  Ids size(tree.size(), 0);
  for (int32_t t : tree) size[t] = forest.tree_offsets[t + 1] - forest.tree_offsets[t];
  if (part_ != nullptr) {  // what of each tree lies in the part
    std::fill(size.begin(), size.end(), 0);
    for (int32_t t : frames.tables[program.root].tree) ++size[t];
    tree.erase(std::remove_if(tree.begin(), tree.end(), [&](int32_t t) { return size[t] == 0; }), tree.end());
  }
  if (rows < kFew || tree.size() < 2) return;
  shards = 2;
  while (shards < kMost && rows / (2 * shards) >= kMany) shards *= 2;
  auto nodes = [&](int32_t t) { return size[t]; };
  std::stable_sort(tree.begin(), tree.end(), [&](int32_t a, int32_t b) { return nodes(a) > nodes(b); });
  std::vector<int64_t> load(static_cast<size_t>(shards), 0);
  tree_shard_.assign(size.size(), 0);
  for (int32_t t : tree) {
    auto least = std::min_element(load.begin(), load.end());
    tree_shard_[t] = static_cast<int32_t>(least - load.begin());
    *least += nodes(t);
  }
}

int32_t Plan::shard_of(int64_t unit) const {
  const Segment& segment = program.segments[frames.unit_segment[unit]];
  int64_t frame = frames.block_frames[segment.block][frames.unit_entry[unit]];
  return tree_shard_[frames.tables[segment.function].tree[frame]];
}

bool Plan::next_round() {
  if (finished_) return false;
  asked_ = frames.waiting;
  cover();
  Ids core, tails, goals;
  for (size_t unit = 0; unit < done_.size(); ++unit)
    if (!done_[unit]) (program.segments[frames.unit_segment[unit]].tail ? tails : core).push_back(unit);
  Edges e = edges(core);
  bool goal_done = false;
  if (!asked_.empty()) {
    for (const auto& w : asked_) {
      int32_t made = program.blocks[w.block].test_segment;
      for (int64_t entry : w.entries) goals.push_back(frames.unit_of(made, w.block, entry));
    }
    for (int64_t goal : goals) goal_done = goal_done || done_[goal];
    core = ancestors(goals, e);
  }
  Levels order = levels(core, e);
  if (order.units.size() < core.size() && (asked_.empty() || (order.units.empty() && !goal_done))) {
    std::vector<uint8_t> ran(done_.size(), 0);
    for (int64_t unit : order.units) ran[unit] = 1;
    Ids stuck;
    for (int64_t unit : core)
      if (!ran[unit]) stuck.push_back(unit);
    endless(stuck, e);
  }
  size_t first = batches.size();
  batch_units_.clear();
  cut(order);
  bool last = asked_.empty();
  if (last) {
    want();
    std::vector<uint8_t> wanted(frames.tables[program.root].size(), 0);
    size_t asked = part_ != nullptr ? part_->asked.size() : returned.size();  // other parts read no tails
    for (size_t i = 0; i < asked; ++i) wanted[returned[i]] = 1;
    Ids late;
    for (int64_t unit : tails) {
      const Segment& segment = program.segments[frames.unit_segment[unit]];
      if (segment.function == program.root && wanted[frames.block_frames[segment.block][frames.unit_entry[unit]]])
        late.push_back(unit);
    }
    auto rank = [&](int64_t unit) { return program.segments[frames.unit_segment[unit]].tail_rank; };
    auto before = [&](int64_t a, int64_t b) {
      if (rank(a) != rank(b)) return rank(a) < rank(b);
      return frames.unit_segment[a] != frames.unit_segment[b] ? frames.unit_segment[a] < frames.unit_segment[b] : a < b;
    };
    if (!std::is_sorted(late.begin(), late.end(), before)) std::sort(late.begin(), late.end(), before);
    int64_t top = order.level.empty() ? 0 : order.level.back() + 1;
    Levels last_ones;
    for (int64_t unit : late) last_ones.level.push_back(top + rank(unit));
    last_ones.shard.assign(late.size(), shards > 1 ? shards : 0);
    last_ones.units.swap(late);
    cut(last_ones);
    Edges late_edges = edges(last_ones.units);
    e.source.insert(e.source.end(), late_edges.source.begin(), late_edges.source.end());
    e.destination.insert(e.destination.end(), late_edges.destination.begin(), late_edges.destination.end());
    finished_ = true;
  }
  connect(first, e);
  number(first, last && rounds == 0 && !keep_);
  fill(first);
  if (last && keep_) number_given();
  ++rounds;
  return true;
}

// Cuts units, in order, into batches.
void Plan::cut(const Levels& order) {
  const Ids& units = order.units;
  for (size_t a = 0; a < units.size();) {
    int32_t s = frames.unit_segment[units[a]], shard = order.shard[a];
    size_t b = a;
    while (b < units.size() && order.level[b] == order.level[a] && order.shard[b] == shard &&
           frames.unit_segment[units[b]] == s)
      ++b;
    Batch batch;
    batch.segment = s;
    batch.level = order.level[a];
    batch.round = rounds;
    batch.shard = shard;
    batch.start = segment_size[s];
    start_list(segment_entries[s]);
    batch.stop = segment_size[s] = batch.start + static_cast<int64_t>(b - a);
    largest[s].resize(shards + 1, 0);
    largest[s][shard] = std::max(largest[s][shard], batch.stop - batch.start);
    for (size_t i = a; i < b; ++i) {
      done_[units[i]] = 1;
      unit_batch_[units[i]] = static_cast<int32_t>(batches.size());
      segment_entries[s].push_back(frames.unit_entry[units[i]]);
    }
    batch_units_.emplace_back(units.begin() + a, units.begin() + b);
    batches.push_back(std::move(batch));
    a = b;
  }
}

// Numbers the rows that new batches write. `reuse`: rows whose readers have all run are written again, and whoever
// writes them waits for those readers.
void Plan::number(size_t first, bool reuse) {
  struct Free {
    int64_t begin, end;
    std::vector<int32_t> readers;
  };
  // By shard and layout: a shard that wrote rows of another would wait for it.
  std::vector<std::vector<Free>> free(static_cast<size_t>((shards + 1) * program.layouts));
  auto free_rows = [&](const Batch& batch, int32_t layout) -> std::vector<Free>& {
    return free[static_cast<size_t>(batch.shard * program.layouts + layout)];
  };
  std::vector<std::vector<int32_t>> ends(reuse ? batches.size() + 1 : 0);
  std::vector<uint8_t> kept(reuse ? batches.size() : 0, 0);
  if (reuse) {
    for (const Ids& units : frames.tables[program.root].out_unit)
      for (int64_t frame : returned)
        if (unit_batch_[units[frame]] >= 0) kept[unit_batch_[units[frame]]] = 1;
    for (size_t b = first; b < batches.size(); ++b)
      if (!kept[b]) {
        size_t last = b;
        for (int32_t reader : batches[b].after) last = std::max(last, static_cast<size_t>(reader));
        ends[last + 1].push_back(static_cast<int32_t>(b));
      }
  }
  for (size_t b = first; b < batches.size(); ++b) {
    Batch& batch = batches[b];
    const Segment& segment = program.segments[batch.segment];
    int64_t rows = batch.stop - batch.start;
    if (reuse)
      for (int32_t done : ends[b])
        for (size_t l = 0; l < batches[done].out_start.size(); ++l) {
          const Batch& old = batches[done];
          auto& list = free_rows(old, program.segments[old.segment].layouts[l]);
          Free interval{old.out_start[l], old.out_start[l] + old.stop - old.start, old.after};
          interval.readers.push_back(done);
          auto at = std::find_if(list.begin(), list.end(), [&](const Free& f) { return f.begin > interval.begin; });
          at = list.insert(at, std::move(interval));
          auto join = [&](size_t i) {  // with its right neighbour
            if (i + 1 >= list.size() || list[i].end != list[i + 1].begin) return;
            list[i].end = list[i + 1].end;
            list[i].readers.insert(list[i].readers.end(), list[i + 1].readers.begin(), list[i + 1].readers.end());
            list.erase(list.begin() + i + 1);
          };
          size_t i = at - list.begin();
          join(i);
          if (i > 0) join(i - 1);
        }
    for (int32_t layout : segment.layouts) {
      auto& list = free_rows(batch, layout);
      auto fit = std::find_if(list.begin(), list.end(), [&](const Free& f) { return f.end - f.begin >= rows; });
      int64_t row;
      if (fit != list.end()) {
        layout_rows[layout] += rows;
        row = fit->begin;
        for (int32_t reader : fit->readers) {
          auto& after = batches[reader].after;
          if (reader != static_cast<int32_t>(b) && std::find(after.begin(), after.end(), b) == after.end()) {
            after.push_back(static_cast<int32_t>(b));
            ++batch.waits;
          }
        }
        fit->begin += rows;
        if (fit->begin == fit->end) list.erase(fit);
      } else {
        row = new_rows(layout, rows);
      }
      batch.out_start.push_back(row);
      for (int64_t unit : batch_units_[b - first]) unit_row[layout][unit] = static_cast<int32_t>(row++);
      check(row < (int64_t(1) << 31), Kind::kMemory, "more than 2^31 rows in one buffer");
    }
  }
}

// What the slots of new batches read.
void Plan::fill(size_t first) {
  for (size_t b = first; b < batches.size(); ++b) {
    const Batch& batch = batches[b];
    int32_t s = batch.segment;
    const Segment& segment = program.segments[s];
    for (size_t k = 0; k < segment.slots.size(); ++k) {
      const Slot& slot = segment.slots[k];
      SlotRows& rows = slots[s][k];
      if (slot.same_as >= 0) continue;
      if (rounds == 0 && slot.kind != SlotKind::kInteger && slot.kind != SlotKind::kRandom) rows.index.reserve(segment_size[s]);
      for (int64_t r = batch.start; r < batch.stop; ++r) {
        int64_t entry = segment_entries[s][r];
        switch (slot.kind) {
          case SlotKind::kField: case SlotKind::kLookup: {
            int64_t at = frames.entry_in(slot.block, segment.block, entry);
            rows.index.push_back(frames.node_of(slot.expr, segment.function, frames.block_frames[slot.block][at]));
            break;
          }
          case SlotKind::kInteger: case SlotKind::kRandom: break;  // computed from frames when they are needed
          default: {
            if (slot.kind == SlotKind::kSum && rows.start.empty()) rows.start.push_back(0);
            const auto& column = unit_row[program.ports[slot.port].layout];
            each_source(s, slot, entry, [&](int64_t unit) { rows.index.push_back(column[unit]); });
            if (slot.kind == SlotKind::kSum) rows.start.push_back(static_cast<int64_t>(rows.index.size()));
          }
        }
      }
    }
  }
}

// Which batches wait for which; batches of one segment and shard run in order, because they share their temporary rows.
void Plan::connect(size_t first, const Edges& e) {
  std::vector<std::vector<int32_t>> before(batches.size() - first);
  for (size_t i = 0; i < e.source.size(); ++i) {
    if (e.source[i] < 0) continue;
    int32_t a = unit_batch_[e.source[i]], b = unit_batch_[e.destination[i]];
    if (a < 0 || b < static_cast<int32_t>(first) || a == b) continue;
    std::vector<int32_t>& list = before[b - first];
    auto recent = list.end() - std::min<std::ptrdiff_t>(list.end() - list.begin(), 8);  // most of what repeats itself
    if (std::find(recent, list.end(), a) == list.end()) list.push_back(a);
  }
  for (size_t b = first; b < batches.size(); ++b) {
    std::vector<int32_t>& list = before[b - first];
    last_batch_[batches[b].segment].resize(shards + 1, -1);
    int32_t& last = last_batch_[batches[b].segment][batches[b].shard];
    if (last >= 0) list.push_back(last);
    last = static_cast<int32_t>(b);
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    for (int32_t a : list) {
      batches[a].after.push_back(static_cast<int32_t>(b));
      batches[b].waits += a >= static_cast<int32_t>(first);
    }
  }
}

std::vector<Frames::Waiting> Plan::decisions() {
  std::vector<Frames::Waiting> ready;
  frames.waiting.clear();
  for (auto& w : asked_) {
    int32_t made = program.blocks[w.block].test_segment;
    Frames::Waiting now{w.block, {}}, later{w.block, {}};
    for (int64_t entry : w.entries)
      (done_[frames.unit_of(made, w.block, entry)] ? now : later).entries.push_back(entry);
    if (!now.entries.empty()) ready.push_back(std::move(now));
    if (!later.entries.empty()) frames.waiting.push_back(std::move(later));
  }
  return ready;
}

void Plan::endless(const Ids& stuck, const Edges& e) const {
  std::vector<int64_t> waits(done_.size(), -1);
  std::vector<uint8_t> inside(done_.size(), 0), seen(done_.size(), 0);
  for (int64_t unit : stuck) inside[unit] = 1;
  for (size_t i = 0; i < e.source.size(); ++i)
    if (e.source[i] >= 0 && inside[e.source[i]] && inside[e.destination[i]]) waits[e.destination[i]] = e.source[i];
  int64_t unit = stuck[0];
  while (waits[unit] >= 0 && !seen[unit]) {
    seen[unit] = 1;
    unit = waits[unit];
  }
  const Segment& segment = program.segments[frames.unit_segment[unit]];
  int64_t frame = frames.block_frames[segment.block][frames.unit_entry[unit]];
  throw Fault(Kind::kDepth, "calls wait for one another", {segment.function, 1}, frames.path(segment.function, frame));
}

}  // namespace rg
