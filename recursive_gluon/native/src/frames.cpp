#include "frames.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace rg {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15ull + b;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

double FieldView::at(int64_t i) const {
  switch (type) {
    case 0: return static_cast<const float*>(data)[i];
    case 1: return static_cast<const double*>(data)[i];
    case 2: return static_cast<const int32_t*>(data)[i];
    case 3: return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    case 4: return static_cast<const uint8_t*>(data)[i];
    default: return static_cast<const int8_t*>(data)[i];
  }
}

Forest::Forest(std::shared_ptr<const Structure> of)
    : structure(std::move(of)), trees(structure->trees), nodes(structure->nodes), edges(structure->edges),
      tree_offsets(structure->tree_offsets), roots(structure->roots), child_offsets(structure->child_offsets),
      children(structure->children), leaf(structure->leaf.data()) {}

Forest::Forest(const Forest& whole, int64_t first, int64_t last) {
  int64_t node = whole.tree_offsets[first], end = whole.tree_offsets[last], edge = whole.child_offsets[node];
  auto own = std::make_shared<Structure>(last - first, end - node, whole.child_offsets[end] - edge);
  for (int64_t t = 0; t <= own->trees; ++t)
    own->tree_offsets[t] = whole.tree_offsets[first + t] - static_cast<int32_t>(node);
  for (int64_t t = 0; t < own->trees; ++t) own->roots[t] = whole.roots[first + t] - static_cast<int32_t>(node);
  for (int64_t n = 0; n <= own->nodes; ++n)
    own->child_offsets[n] = whole.child_offsets[node + n] - static_cast<int32_t>(edge);
  for (int64_t e = 0; e < own->edges; ++e) {
    int32_t child = whole.children[edge + e];
    own->children[e] = child < 0 ? -1 : child - static_cast<int32_t>(node);
  }
  own->leaf.assign(whole.leaf + node, whole.leaf + end);
  *this = Forest(std::move(own));
  first_tree = whole.first_tree + first;
  for (const FieldView& field : whole.fields) fields.push_back(field.from(node, nodes));
}

void Forest::check(const Program& program) const {
  auto want = [](bool ok) { rg::check(ok, Kind::kArity, "the fields of the forest are not those of the program"); };
  want(fields.size() == program.field_cols.size());
  for (size_t i = 0; i < fields.size(); ++i)
    want(fields[i].rows == nodes && (program.field_cols[i] == 0 || fields[i].cols == program.field_cols[i]));
}

Frames::Frames(const Program& program, const Forest& forest, int64_t max_depth)
    : tables(program.functions.size()), block_frames(program.blocks.size()), parent_entry(program.blocks.size()),
      callee(program.sites.size()), callee_count(program.sites.size()), segment_units(program.segments.size()),
      program_(program), forest_(forest), max_depth_(max_depth), pending_(program.blocks.size()) {
  for (size_t f = 0; f < tables.size(); ++f) {
    const Function& function = program.functions[f];
    if (static_cast<int32_t>(f) == program.root && function.shared() && function.num_ints == 0) {  // most often all nodes
      FrameTable& table = tables[f];
      for (auto* column : {&table.node, &table.tree, &table.depth, &table.site}) column->reserve(forest.nodes);
      table.caller.reserve(forest.nodes);
      unit_entry.reserve(2 * forest.nodes);
      unit_segment.reserve(2 * forest.nodes);
    }
    tables[f].arg_unit.resize(function.arg_ports.size());
    tables[f].out_unit.resize(function.out_ports.size());
    if (function.shared() && function.num_ints == 0) tables[f].by_node.assign(forest.nodes + 1, -1);
  }
}

Ids Frames::start(const std::vector<int64_t>& ints) {
  const Function& root = program_.functions[program_.root];
  check(ints.size() == static_cast<size_t>(root.num_ints), Kind::kProgram, "the integers for the roots");
  Calls calls;
  int64_t n = forest_.trees;
  calls.args.resize(root.arg_ports.size());
  for (size_t a = 0; a < root.arg_ports.size(); ++a)
    for (int64_t t = 0; t < n; ++t) {
      calls.args[a].push_back(static_cast<int64_t>(unit_segment.size()));
      unit_segment.push_back(-1 - static_cast<int32_t>(a));
      unit_entry.push_back(t);
    }
  for (int64_t t = 0; t < n; ++t) {
    calls.root(forest_.roots[t], static_cast<int32_t>(t));
    calls.ints.insert(calls.ints.end(), ints.begin(), ints.end());
  }
  Ids ids = make(program_.root, calls, -1, false);
  grow();
  return ids;
}

Ids Frames::start(const Part& part) {
  FrameTable& table = tables[program_.root];
  auto tree_of = [&](int32_t node) {
    const int32_t* offsets = forest_.tree_offsets;
    return static_cast<int32_t>(std::upper_bound(offsets, offsets + forest_.trees + 1, node) - offsets) - 1;
  };
  int64_t n = static_cast<int64_t>(part.given.size());
  for (size_t j = 0; j < table.out_unit.size(); ++j)
    for (int64_t i = 0; i < n; ++i) {
      table.out_unit[j].push_back(static_cast<int64_t>(unit_segment.size()));
      unit_segment.push_back(-1 - static_cast<int32_t>(j));
      unit_entry.push_back(i);
    }
  for (int32_t node : part.given) {
    table.by_node[node] = static_cast<int32_t>(table.size());
    table.node.push_back(node);
    table.tree.push_back(tree_of(node));
    table.depth.push_back(0);
    table.site.push_back(-1);
    table.caller.push_back(-1);
    if (program_.keyed) table.key.push_back(0);  // nothing is drawn for them
  }
  Calls calls;
  for (int32_t node : part.starts) calls.root(node, tree_of(node));
  Ids ids = make(program_.root, calls, -1, false);
  grow();
  return ids;
}

void Frames::Calls::clear(size_t num_args) {
  node.clear();
  tree.clear();
  depth.clear();
  ints.clear();
  caller.clear();
  caller_key.clear();
  args.resize(num_args);
  for (auto& column : args) column.clear();
}

void Frames::Calls::root(int32_t at, int32_t of_tree) {
  node.push_back(at);
  tree.push_back(of_tree);
  depth.push_back(0);
  caller.push_back(-1);
  caller_key.push_back(0);
}

void Frames::push(int32_t block, int64_t frame, int64_t parent) {
  Pending& pending = pending_[block];
  if (pending.frames.empty()) {
    order_.push_back(block);
    start_list(pending.frames);
    start_list(pending.parents);
  }
  pending.frames.push_back(frame);
  pending.parents.push_back(parent);
}

void Frames::grow() {
  while (!order_.empty()) {
    std::vector<int32_t> order;
    order.swap(order_);
    for (int32_t block : order) {
      std::swap(now_, pending_[block]);
      enter(block, now_.frames, now_.parents);
      now_.frames.clear();
      now_.parents.clear();
    }
  }
}

void Frames::enter(int32_t b, const Ids& frames, const Ids& parents) {
  const Block& block = program_.blocks[b];
  int64_t first = static_cast<int64_t>(block_frames[b].size()), n = static_cast<int64_t>(frames.size());
  start_list(block_frames[b]);
  start_list(parent_entry[b]);
  block_frames[b].insert(block_frames[b].end(), frames.begin(), frames.end());
  parent_entry[b].insert(parent_entry[b].end(), parents.begin(), parents.end());
  for (int32_t s : block.segments) {
    Ids& units = segment_units[s];
    start_list(units);
    int64_t unit = static_cast<int64_t>(unit_segment.size());
    for (int64_t i = 0; i < n; ++i) {
      units.push_back(unit + i);
      unit_segment.push_back(s);
      unit_entry.push_back(first + i);
    }
  }
  for (int32_t s : block.sites) call(s, frames, first);
  FrameTable& table = tables[block.function];
  switch (block.end) {
    case End::kReturn:
      for (size_t j = 0; j < block.returns.size(); ++j)
        for (int64_t i = 0; i < n; ++i) table.out_unit[j][frames[i]] = unit_of(block.returns[j], b, first + i);
      break;
    case End::kRaise:
      throw Fault(Kind::kRaise, "the body raises", {block.function, b}, path(block.function, frames[0]));
    case End::kValueBranch: {
      Ids entries(n);
      for (int64_t i = 0; i < n; ++i) entries[i] = first + i;
      waiting.push_back({b, std::move(entries)});
      break;
    }
    case End::kBranch: {
      Ids& entries = entries_;
      std::vector<int64_t>& answers = answers_;
      entries.resize(n);
      answers.resize(n);
      for (int64_t i = 0; i < n; ++i) {
        entries[i] = first + i;
        Number answer = evaluate(block.test, block.function, frames[i]);
        if (!block.exact) answers[i] = answer.real ? answer.f != 0 : answer.i != 0;
        else if (!answer.real) answers[i] = answer.i;
        else answers[i] = answer.f == std::floor(answer.f) && std::abs(answer.f) < 9e15
                              ? static_cast<int64_t>(answer.f) : std::numeric_limits<int64_t>::min();
      }
      split(b, frames, entries, answers);
      break;
    }
  }
}

void Frames::split(int32_t b, const Ids& frames, const Ids& entries, const std::vector<int64_t>& answers) {
  const Block& block = program_.blocks[b];
  for (size_t i = 0; i < frames.size(); ++i) {
    size_t arm = 0;
    while (arm < block.answers.size() && block.answers[arm] != answers[i]) ++arm;
    if (arm == block.answers.size())
      throw Fault(Kind::kUnseen, "a path that was never traced", {block.function, b, answers[i]},
                  path(block.function, frames[i]));
    push(block.arms[arm], frames[i], entries[i]);
  }
}

void Frames::decide(int32_t block, const Ids& entries, const std::vector<uint8_t>& truths) {
  Ids frames(entries.size());
  std::vector<int64_t> answers(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    frames[i] = block_frames[block][entries[i]];
    answers[i] = truths[i];
  }
  split(block, frames, entries, answers);
  grow();
}

void Frames::call(int32_t s, const Ids& frames, int64_t first) {
  const Site& site = program_.sites[s];
  const FrameTable& table = tables[site.function];
  Calls& calls = calls_;
  calls.clear(site.captures.size() + site.carries.size());
  std::vector<int64_t> ints(site.ints.size());
  int64_t begin = static_cast<int64_t>(callee[s].size());
  start_list(callee[s]);
  bool own = site.for_each;  // a loop's frames are its own, in order: never shared
  int64_t base = tables[site.callee].size();
  for (size_t i = 0; i < frames.size(); ++i) {
    int64_t frame = frames[i], entry = first + static_cast<int64_t>(i);
    int64_t node = evaluate(site.node, site.function, frame).i;
    for (size_t k = 0; k < ints.size(); ++k) ints[k] = evaluate(site.ints[k], site.function, frame).i;
    auto add = [&](int64_t at) {
      calls.node.push_back(static_cast<int32_t>(at));
      calls.tree.push_back(table.tree[frame]);
      calls.depth.push_back(table.depth[frame] + 1);
      calls.ints.insert(calls.ints.end(), ints.begin(), ints.end());
      calls.caller.push_back(frame);
      if (program_.keyed) calls.caller_key.push_back(table.key[frame]);
      for (size_t a = 0; a < site.captures.size(); ++a)
        calls.args[a].push_back(unit_of(site.captures[a], site.block, entry));
    };
    if (!site.for_each) {
      if (site.needs_node && node < 0)
        throw Fault(Kind::kArity, "an empty slot is called", {site.function, 0, s}, path(site.function, frame));
      add(node);
      continue;
    }
    check(node >= 0, Kind::kArity, "a loop over the children of an empty slot");
    int32_t low = forest_.child_offsets[node], high = forest_.child_offsets[node + 1];
    callee[s].push_back(base + static_cast<int64_t>(calls.node.size()));
    callee_count[s].push_back(high - low);
    for (int32_t e = low; e < high; ++e) {
      add(forest_.children[e]);
      calls.ints.push_back(e - low);
      if (program_.keyed) calls.caller_key.back() = mix(calls.caller_key.back(), static_cast<uint64_t>(e - low));
      for (size_t c = 0; c < site.carries.size(); ++c)  // -1: what the frame before returned
        calls.args[site.captures.size() + c].push_back(e == low ? unit_of(site.carries[c], site.block, entry) : -1);
    }
  }
  Ids ids = make(site.callee, calls, s, own);
  if (!site.for_each) callee[s].insert(callee[s].begin() + begin, ids.begin(), ids.end());
}

int64_t Frames::find(FrameTable& table, int32_t node, const int64_t* ints, int32_t num_ints, bool* is_new) {
  *is_new = false;
  int64_t next = table.size();
  if (num_ints == 0) {
    int32_t& known = table.by_node[node < 0 ? forest_.nodes : node];
    if (known < 0) {
      known = static_cast<int32_t>(next);
      *is_new = true;
    }
    return known;
  }
  uint64_t key = static_cast<uint64_t>(static_cast<int64_t>(node));
  for (int32_t k = 0; k < num_ints; ++k) key = mix(key, static_cast<uint64_t>(ints[k]));
  auto [at, added] = table.by_key.try_emplace(key, next);
  int64_t last = -1;
  if (!added)
    for (int64_t id = at->second; id >= 0; id = table.next_same[id]) {
      if (table.node[id] == node && std::memcmp(&table.ints[id * num_ints], ints, num_ints * sizeof *ints) == 0)
        return id;
      last = id;
    }
  if (last >= 0) table.next_same[last] = next;
  *is_new = true;
  return next;
}

Ids Frames::make(int32_t f, const Calls& calls, int32_t site, bool own) {
  const Function& function = program_.functions[f];
  FrameTable& table = tables[f];
  int32_t num_ints = function.num_ints;
  bool shared = function.shared() && !own;
  for (auto& column : table.out_unit) start_list(column);
  Ids ids(calls.node.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t* ints = calls.ints.data() + i * num_ints;
    bool is_new = true;
    ids[i] = shared ? find(table, calls.node[i], ints, num_ints, &is_new) : table.size();
    if (!is_new) continue;
    if (calls.depth[i] > max_depth_) {
      std::vector<int64_t> sites;
      if (site >= 0) sites = path(program_.sites[site].function, calls.caller[i]);
      throw Fault(Kind::kDepth, "calls are nested too deep", {site < 0 ? f : program_.sites[site].function, 0, site},
                  sites);
    }
    table.node.push_back(calls.node[i]);
    table.tree.push_back(calls.tree[i]);
    table.depth.push_back(calls.depth[i]);
    table.site.push_back(site);
    table.caller.push_back(calls.caller[i]);
    table.ints.insert(table.ints.end(), ints, ints + num_ints);
    if (num_ints) table.next_same.push_back(-1);
    if (program_.keyed)
      table.key.push_back(key(f, calls.node[i], calls.tree[i], ints, site, site < 0, calls.caller_key[i], shared));
    for (size_t a = 0; a < table.arg_unit.size(); ++a) table.arg_unit[a].push_back(calls.args[a][i]);
    for (auto& column : table.out_unit) column.push_back(-1);
    push(function.entry, ids[i], -1);
  }
  return ids;
}

uint64_t Frames::key(int32_t f, int32_t node, int32_t tree, const int64_t* ints, int32_t site, bool root,
                     uint64_t caller_key, bool shared) const {
  // A shared frame without a node belongs to no tree: trees that reach it in another order must not alter it.
  uint64_t k = mix(static_cast<uint64_t>(f) + 1, static_cast<uint64_t>(shared && node < 0 ? 0 : forest_.first_tree + tree));
  k = mix(k, node >= 0 ? static_cast<uint64_t>(node - forest_.tree_offsets[tree]) : ~uint64_t(0));
  for (int32_t i = 0; i < program_.functions[f].num_ints; ++i) k = mix(k, static_cast<uint64_t>(ints[i]));
  return shared ? k : mix(mix(k, static_cast<uint64_t>(site + 1)), root ? 0 : caller_key);
}

int64_t Frames::node_of(const Expr& expr, int32_t function, int64_t frame) const {
  int64_t node = evaluate(expr, function, frame).i;
  if (node < 0)
    throw Fault(Kind::kArity, "a field of an empty slot", {function, 1}, path(function, frame));
  return node;
}

Number Frames::evaluate(const Expr& expr, int32_t function, int64_t frame) const {
  const FrameTable& table = tables[function];
  // What bodies ask most: the node, whether it is a leaf, its k-th child.
  if (expr[0].code == ExprCode::kNode && table.node[frame] >= 0) {
    int32_t node = table.node[frame];
    if (expr.size() == 1) return {false, node, 0};
    if (expr.size() == 2 && expr[1].code == ExprCode::kIsLeaf) return {false, forest_.leaf[node], 0};
    if (expr.size() == 3 && expr[1].code == ExprCode::kConst && expr[2].code == ExprCode::kChild) {
      int64_t low = forest_.child_offsets[node], at = expr[1].value;
      if (at >= 0 && at < forest_.child_offsets[node + 1] - low) return {false, forest_.children[low + at], 0};
    }
  }
  Number stack[34];
  int top = 0;
  auto present = [&](const Number& node) {
    if (node.i < 0) throw Fault(Kind::kArity, "an empty slot is looked at", {function, 1}, path(function, frame));
    return node.i;
  };
  auto whole = [](int64_t i) { return Number{false, i, 0}; };
  auto wrap = [](uint64_t i) { return Number{false, static_cast<int64_t>(i), 0}; };  // overflow wraps, as NumPy's
  auto real = [](double f) { return Number{true, 0, f}; };
  for (const ExprOp& op : expr) {
    Number* a = top > 0 ? &stack[top - 1] : nullptr;
    Number* b = top > 1 ? &stack[top - 2] : nullptr;  // the left operand of two
    switch (op.code) {
      case ExprCode::kConst: stack[top++] = whole(op.value); break;
      case ExprCode::kReal: stack[top++] = real(op.real); break;
      case ExprCode::kInt: stack[top++] = whole(table.ints[frame * program_.functions[function].num_ints + op.value]); break;
      case ExprCode::kNode: stack[top++] = whole(table.node[frame]); break;
      case ExprCode::kNone: stack[top++] = whole(-1); break;
      case ExprCode::kChild: {
        int64_t node = present(*b), k = a->i;
        int32_t low = forest_.child_offsets[node], high = forest_.child_offsets[node + 1];
        if (k < 0 || k >= high - low)
          throw Fault(Kind::kArity, "a child that is not there", {function, 2, k, high - low}, path(function, frame));
        *b = whole(forest_.children[low + k]);
        --top;
        break;
      }
      case ExprCode::kArity: {
        int64_t node = present(*a);
        *a = whole(forest_.child_offsets[node + 1] - forest_.child_offsets[node]);
        break;
      }
      case ExprCode::kIndex: {
        int64_t tree = table.tree[frame];
        *a = whole(a->i - forest_.tree_offsets[tree]);
        break;
      }
      case ExprCode::kIsLeaf: *a = whole(forest_.leaf[present(*a)]); break;
      case ExprCode::kIsNone: *a = whole(a->i < 0); break;
      case ExprCode::kField: {
        const FieldView& field = forest_.fields[op.value];
        int64_t node = present(*a);
        double value = field.at(node);
        *a = field.floating() ? real(value) : whole(static_cast<int64_t>(value));
        break;
      }
      case ExprCode::kNeg: *a = a->real ? real(-a->f) : wrap(0 - uint64_t(a->i)); break;
      default: {
        bool r = a->real || b->real;
        double x = b->value(), y = a->value();
        int64_t i = b->i, j = a->i;
        switch (op.code) {
          case ExprCode::kAdd: *b = r ? real(x + y) : wrap(uint64_t(i) + uint64_t(j)); break;
          case ExprCode::kSub: *b = r ? real(x - y) : wrap(uint64_t(i) - uint64_t(j)); break;
          case ExprCode::kMul: *b = r ? real(x * y) : wrap(uint64_t(i) * uint64_t(j)); break;
          case ExprCode::kFloorDiv:
            if (r) *b = real(std::floor(x / y));
            else if (j == 0) *b = whole(0);
            else if (j == -1) *b = wrap(0 - uint64_t(i));
            else *b = whole(i / j - ((i % j != 0) && ((i < 0) != (j < 0))));
            break;
          case ExprCode::kMod:
            if (r) *b = real(x - std::floor(x / y) * y);
            else if (j == 0 || j == -1) *b = whole(0);
            else *b = whole(i % j + (((i % j != 0) && ((i < 0) != (j < 0))) ? j : 0));
            break;
          case ExprCode::kEq: *b = whole(r ? x == y : i == j); break;
          case ExprCode::kNe: *b = whole(r ? x != y : i != j); break;
          case ExprCode::kLt: *b = whole(r ? x < y : i < j); break;
          case ExprCode::kLe: *b = whole(r ? x <= y : i <= j); break;
          case ExprCode::kGt: *b = whole(r ? x > y : i > j); break;
          default: *b = whole(r ? x >= y : i >= j); break;
        }
        --top;
      }
    }
  }
  return stack[0];
}

std::vector<int64_t> Frames::path(int32_t function, int64_t frame) const {
  std::vector<int64_t> sites;
  while (sites.size() <= 12) {
    int32_t site = tables[function].site[frame];
    if (site < 0) break;
    sites.push_back(site);
    frame = tables[function].caller[frame];
    function = program_.sites[site].function;
  }
  return sites;
}

}  // namespace rg
