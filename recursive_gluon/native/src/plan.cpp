#include "plan.h"

#include <algorithm>
#include <numeric>

namespace rg {

Plan::Plan(const Program& p, const Forest& forest, const std::vector<int64_t>& ints, int64_t max_depth, bool nodes,
           int64_t max_nodes)
    : program(p), forest(forest), frames(p, forest, max_depth), layout_size(p.layouts, 1), unit_row(p.layouts),
      segment_size(p.segments.size(), 0), largest(p.segments.size(), 0), slots(p.segments.size()),
      segment_entries(p.segments.size()), nodes_(nodes), max_nodes_(max_nodes), last_batch_(p.segments.size(), -1) {
  for (size_t s = 0; s < slots.size(); ++s) slots[s].resize(p.segments[s].slots.size());
  roots = frames.start(ints);
  cover();
  const Function& root = p.functions[p.root];
  int64_t n = forest.trees;
  for (size_t a = 0; a < root.arg_ports.size(); ++a) {
    int32_t layout = p.ports[root.arg_ports[a]].layout;
    for (int64_t t = 0; t < n; ++t) unit_row[layout][a * n + t] = static_cast<int32_t>(layout_size[layout] + t);
    layout_size[layout] += n;
    std::fill_n(done_.begin() + a * n, n, 1);
  }
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

// Units that can run, by level, segment and number; those that wait for something else are left out.
void Plan::levels(const Ids& units, const Edges& e, Ids* ordered, Ids* level) const {
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
  Ids ready;
  for (int64_t unit : units)
    if (waits[unit] == 0) ready.push_back(unit);
  Ids next;
  const auto& segment = frames.unit_segment;
  for (int64_t now = 0; !ready.empty(); ++now) {
    std::sort(ready.begin(), ready.end(), [&](int64_t a, int64_t b) {
      return segment[a] != segment[b] ? segment[a] < segment[b] : a < b;
    });
    next.clear();
    for (int64_t unit : ready) {
      ordered->push_back(unit);
      level->push_back(now);
      for (int64_t i = after.start[unit]; i < after.start[unit + 1]; ++i)
        if (--waits[after.values[i]] == 0) next.push_back(after.values[i]);
    }
    ready.swap(next);
  }
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
  Ids units, level;
  levels(core, e, &units, &level);
  if (units.size() < core.size() && (asked_.empty() || (units.empty() && !goal_done))) {
    std::vector<uint8_t> ran(done_.size(), 0);
    for (int64_t unit : units) ran[unit] = 1;
    Ids stuck;
    for (int64_t unit : core)
      if (!ran[unit]) stuck.push_back(unit);
    endless(stuck, e);
  }
  size_t first = batches.size();
  batch_units_.clear();
  cut(units, level);
  bool last = asked_.empty();
  if (last) {
    want();
    std::vector<uint8_t> wanted(frames.tables[program.root].size(), 0);
    for (int64_t frame : returned) wanted[frame] = 1;
    Ids late;
    for (int64_t unit : tails) {
      const Segment& segment = program.segments[frames.unit_segment[unit]];
      if (segment.function == program.root && wanted[frames.block_frames[segment.block][frames.unit_entry[unit]]])
        late.push_back(unit);
    }
    auto rank = [&](int64_t unit) { return program.segments[frames.unit_segment[unit]].tail_rank; };
    std::sort(late.begin(), late.end(), [&](int64_t a, int64_t b) {
      if (rank(a) != rank(b)) return rank(a) < rank(b);
      return frames.unit_segment[a] != frames.unit_segment[b] ? frames.unit_segment[a] < frames.unit_segment[b] : a < b;
    });
    int64_t top = level.empty() ? 0 : level.back() + 1;
    Ids late_level;
    for (int64_t unit : late) late_level.push_back(top + rank(unit));
    cut(late, late_level);
    Edges late_edges = edges(late);
    e.source.insert(e.source.end(), late_edges.source.begin(), late_edges.source.end());
    e.destination.insert(e.destination.end(), late_edges.destination.begin(), late_edges.destination.end());
    finished_ = true;
  }
  connect(first, e);
  number(first, last && rounds == 0 && !program.keep);
  fill(first);
  ++rounds;
  return true;
}

// Cuts units, in order, into batches.
void Plan::cut(const Ids& units, const Ids& level) {
  for (size_t a = 0; a < units.size();) {
    int32_t s = frames.unit_segment[units[a]];
    size_t b = a;
    while (b < units.size() && level[b] == level[a] && frames.unit_segment[units[b]] == s) ++b;
    Batch batch;
    batch.segment = s;
    batch.level = level[a];
    batch.round = rounds;
    batch.start = segment_size[s];
    batch.stop = segment_size[s] = batch.start + static_cast<int64_t>(b - a);
    largest[s] = std::max(largest[s], batch.stop - batch.start);
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
  std::vector<std::vector<Free>> free(program.layouts);
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
  layout_rows.resize(program.layouts, 0);
  for (size_t b = first; b < batches.size(); ++b) {
    Batch& batch = batches[b];
    const Segment& segment = program.segments[batch.segment];
    int64_t rows = batch.stop - batch.start;
    if (reuse)
      for (int32_t done : ends[b])
        for (size_t l = 0; l < batches[done].out_start.size(); ++l) {
          const Batch& old = batches[done];
          auto& list = free[program.segments[old.segment].layouts[l]];
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
      layout_rows[layout] += rows;
      auto& list = free[layout];
      auto fit = std::find_if(list.begin(), list.end(), [&](const Free& f) { return f.end - f.begin >= rows; });
      int64_t row = layout_size[layout];
      if (fit != list.end()) {
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
        layout_size[layout] += rows;
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

// Which batches wait for which; batches of one segment run in order, because they share their temporary rows.
void Plan::connect(size_t first, const Edges& e) {
  std::vector<std::vector<int32_t>> before(batches.size() - first);
  for (size_t i = 0; i < e.source.size(); ++i) {
    if (e.source[i] < 0) continue;
    int32_t a = unit_batch_[e.source[i]], b = unit_batch_[e.destination[i]];
    if (a < 0 || b < static_cast<int32_t>(first) || a == b) continue;
    std::vector<int32_t>& list = before[b - first];
    if (list.empty() || list.back() != a) list.push_back(a);
  }
  for (size_t b = first; b < batches.size(); ++b) {
    std::vector<int32_t>& list = before[b - first];
    int32_t last = last_batch_[batches[b].segment];
    if (last >= 0) list.push_back(last);
    last_batch_[batches[b].segment] = static_cast<int32_t>(b);
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
