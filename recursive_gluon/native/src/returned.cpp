// What a finished plan returns, and who reads each row: the plan of the gradient.
#include <algorithm>
#include <numeric>

#include "plan.h"

namespace rg {

// -- what is returned --------------------
void Plan::want() {
  const FrameTable& table = frames.tables[program.root];
  if (part_ != nullptr) {
    for (const auto* nodes : {&part_->asked, &part_->kept})
      for (int32_t node : *nodes) returned.push_back(table.by_node[node]);
    return;
  }
  if (max_nodes_ > 0) {
    returned.resize(table.size());
    std::iota(returned.begin(), returned.end(), 0);
    return;
  }
  if (!nodes_) {
    returned = roots;
    return;
  }
  Ids visits(forest.nodes, 0);
  returned.assign(forest.nodes, -1);
  for (int64_t frame = 0; frame < table.size(); ++frame)
    if (table.node[frame] >= 0) {
      if (visits[table.node[frame]]++ == 0) returned[table.node[frame]] = frame;
    }
  for (int64_t node = 0; node < forest.nodes; ++node)
    if (visits[node] != 1)
      throw Fault(Kind::kVisit, "a node is not visited once", {program.root, node, visits[node]},
                  visits[node] ? frames.path(program.root, returned[node]) : std::vector<int64_t>{});
}

Ids Plan::output_rows(int32_t output) const {
  const Function& root = program.functions[program.root];
  const auto& column = unit_row[program.ports[root.out_ports[output]].layout];
  const Ids& units = frames.tables[program.root].out_unit[output];
  Ids rows(returned.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = std::max(column[units[returned[i]]], 0);
  if (max_nodes_ <= 0) return rows;
  std::vector<int32_t> tree;
  Ids place, padded(forest.trees * max_nodes_, 0);
  grown(&tree, &place);
  for (size_t i = 0; i < rows.size(); ++i) padded[tree[i] * max_nodes_ + place[i]] = rows[i];
  return padded;
}

// The root function's frames in depth-first order: for each its tree and its place in it. As schedule/order.py.
void Plan::grown(std::vector<int32_t>* tree, Ids* place) const {
  Ids offset(1, 0);
  for (const FrameTable& table : frames.tables) offset.push_back(offset.back() + table.size());
  int64_t total = offset.back();
  Ids parent(total, -1), size(total, 0), begin(total, 0), order(total);
  std::vector<int32_t> depth(total), site(total);
  for (size_t f = 0; f < frames.tables.size(); ++f) {
    const FrameTable& table = frames.tables[f];
    for (int64_t i = 0; i < table.size(); ++i) {
      int64_t id = offset[f] + i;
      depth[id] = table.depth[i];
      site[id] = table.site[i];
      if (site[id] >= 0) parent[id] = offset[program.sites[site[id]].function] + table.caller[i];
      size[id] = static_cast<int32_t>(f) == program.root;
    }
  }
  Ids counted(size);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    if (depth[a] != depth[b]) return depth[a] < depth[b];
    if (parent[a] != parent[b]) return parent[a] < parent[b];
    return site[a] != site[b] ? site[a] < site[b] : a < b;
  });
  for (int64_t i = total - 1; i >= 0; --i)
    if (parent[order[i]] >= 0) size[parent[order[i]]] += size[order[i]];
  int64_t before = 0;
  for (int64_t i = 0; i < total; ++i) {
    int64_t id = order[i];
    if (parent[id] < 0) continue;
    if (i == 0 || parent[order[i - 1]] != parent[id]) before = 0;
    begin[id] = begin[parent[id]] + counted[parent[id]] + before;
    before += size[id];
  }
  const FrameTable& root = frames.tables[program.root];
  Ids& counts = const_cast<Plan*>(this)->counts;
  counts.assign(forest.trees, 0);
  tree->assign(root.tree.begin(), root.tree.end());
  for (int32_t t : *tree) ++counts[t];
  for (int64_t t = 0; t < forest.trees; ++t)
    if (counts[t] > max_nodes_)
      throw Fault(Kind::kCount, "a tree grew too large", {program.root, t, counts[t]}, {});
  place->assign(begin.begin() + offset[program.root], begin.begin() + offset[program.root + 1]);
}

// -- who reads what --------------------
void Plan::number_given() {
  port_readers.assign(program.ports.size(), Readers());
  field_readers.assign(program.field_cols.size(), Readers());
  given_base.assign(program.segments.size(), {});
  const Function& root = program.functions[program.root];
  output_base.assign(root.out_ports.size(), 0);
  for (size_t j = 0; j < root.out_ports.size(); ++j) {
    int32_t port = root.out_ports[j];
    if (!program.ports[port].floating) continue;
    output_base[j] = port_readers[port].size;
    port_readers[port].size += returned_rows();
  }
  for (size_t s = 0; s < program.segments.size(); ++s) {
    const Segment& segment = program.segments[s];
    given_base[s].assign(segment.slots.size(), -1);
    for (size_t k = 0; k < segment.slots.size(); ++k) {
      const Slot& slot = segment.slots[k];
      if (!slot.gives || slot.kind == SlotKind::kLookup) continue;
      Readers& readers = slot.kind == SlotKind::kField ? field_readers[slot.source] : port_readers[slot.port];
      given_base[s][k] = readers.size;
      readers.size += segment_size[s];
    }
  }
}

void Plan::make_readers(const std::vector<const void*>& ograds) {
  size_t ports = program.ports.size(), fields = program.field_cols.size();
  struct Reader {
    const Ids *index, *start;
    int64_t base, rows;
  };
  std::vector<std::vector<Reader>> of(ports + fields);
  std::vector<Ids> outputs;
  const Function& root = program.functions[program.root];
  outputs.reserve(root.out_ports.size());
  for (size_t j = 0; j < root.out_ports.size(); ++j) {
    int32_t port = root.out_ports[j];
    if (!program.ports[port].floating || ograds[j] == nullptr) continue;
    outputs.push_back(output_rows(static_cast<int32_t>(j)));
    of[port].push_back({&outputs.back(), nullptr, output_base[j], returned_rows()});
  }
  for (size_t s = 0; s < program.segments.size(); ++s) {
    const Segment& segment = program.segments[s];
    for (size_t k = 0; k < segment.slots.size(); ++k) {
      if (given_base[s][k] < 0) continue;
      const Slot& slot = segment.slots[k];
      const SlotRows& rows = slots[s][slot.same_as < 0 ? k : slot.same_as];
      of[slot.kind == SlotKind::kField ? ports + slot.source : slot.port].push_back(
          {&rows.index, rows.start.empty() ? nullptr : &rows.start, given_base[s][k], segment_size[s]});
    }
  }
  for (size_t i = 0; i < of.size(); ++i) {
    bool field = i >= ports;
    Readers& readers = field ? field_readers[i - ports] : port_readers[i];
    int64_t rows = field ? forest.nodes : layout_size[program.ports[i].layout];
    readers.start.assign(rows + 1, 0);
    for (const Reader& reader : of[i])
      for (int64_t row : *reader.index)
        if (row > 0 || field) ++readers.start[row + 1];  // row 0 of a port stands for nothing
    std::partial_sum(readers.start.begin(), readers.start.end(), readers.start.begin());
    readers.given.resize(readers.start.back());
    Ids at(readers.start.begin(), readers.start.end() - 1);
    for (const Reader& reader : of[i])
      for (int64_t r = 0; r < reader.rows; ++r) {
        int64_t low = reader.start ? (*reader.start)[r] : r, high = reader.start ? (*reader.start)[r + 1] : r + 1;
        for (int64_t k = low; k < high; ++k) {
          int64_t row = (*reader.index)[k];
          if (row > 0 || field) readers.given[at[row]++] = reader.base + r;
        }
      }
  }
}

}  // namespace rg
