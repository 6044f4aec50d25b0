// Words to a Program. Nothing that a program says is believed: every index is checked before anything runs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "arrays.h"

namespace rg {
namespace {

constexpr int64_t kMagic = 0x5247434F52453031;  // "RGCORE01"
constexpr int64_t kMost = int64_t(1) << 40;

class Words {
 public:
  Words(const int64_t* words, size_t count) : at_(words), end_(words + count) {}

  int64_t any() {
    check(at_ < end_, Kind::kProgram, "the program ends too early");
    return *at_++;
  }
  int64_t within(int64_t low, int64_t high) {  // low <= value < high
    int64_t value = any();
    check(value >= low && value < high, Kind::kProgram, "a number in the program is out of range");
    return value;
  }
  int32_t index(size_t size) { return static_cast<int32_t>(within(0, static_cast<int64_t>(size))); }
  int32_t index_or_none(size_t size) { return static_cast<int32_t>(within(-1, static_cast<int64_t>(size))); }
  bool flag() { return within(0, 2) != 0; }
  double real() {
    int64_t bits = any();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  // How many elements follow, each of at least one word.
  size_t count() { return static_cast<size_t>(within(0, end_ - at_ + 1)); }
  bool done() const { return at_ == end_; }

 private:
  const int64_t *at_, *end_;
};

class Decoder {
 public:
  Decoder(const int64_t* words, size_t count) : w_(words, count), p_(new Program) {}

  std::unique_ptr<Program> run() {
    check(w_.any() == kMagic, Kind::kProgram, "these words are not a program of this core");
    Program& p = *p_;
    p.scalar = static_cast<int32_t>(w_.any());
    check(p.scalar == 4 || p.scalar == 8, Kind::kProgram, "numbers have 4 or 8 bytes");
    p.keep = w_.flag();
    p.keyed = w_.flag();
    p.functions.resize(w_.count());
    p.blocks.resize(w_.count());
    p.sites.resize(w_.count());
    p.segments.resize(w_.count());
    p.ports.resize(w_.count());
    p.shared.resize(w_.count());
    p.shared_inputs = static_cast<int32_t>(w_.within(0, p.shared.size() + 1));
    p.field_cols.resize(w_.count());
    p.table_rows.resize(w_.count());
    p.table_cols.resize(p.table_rows.size());
    p.layouts = static_cast<int32_t>(w_.within(1, p.ports.size() + 2));
    p.root = w_.index(p.functions.size());
    for (Port& port : p.ports) {
      port.cols = w_.within(1, kMost);
      port.layout = w_.index(p.layouts);
      port.floating = w_.flag();
    }
    for (Shared& shared : p.shared) {
      shared.size = w_.within(0, kMost);
      shared.gradient = w_.flag();
    }
    for (int64_t& cols : p.field_cols) cols = w_.within(0, kMost);
    for (size_t i = 0; i < p.table_rows.size(); ++i) {
      p.table_rows[i] = w_.within(1, kMost);
      p.table_cols[i] = w_.within(1, kMost);
    }
    for (Function& f : p.functions) function(f);
    for (size_t i = 0; i < p.blocks.size(); ++i) block(p.blocks[i], static_cast<int32_t>(i));
    for (Site& s : p.sites) site(s);
    for (Segment& s : p.segments) segment(s);
    p.prologue.resize(w_.count());
    for (Instr& i : p.prologue) instr(i, nullptr);
    check(w_.done(), Kind::kProgram, "the program goes on after its end");
    finish();
    find_uses(*p_);
    return std::move(p_);
  }

 private:
  void indices(std::vector<int32_t>& out, size_t size) {
    out.resize(w_.count());
    for (int32_t& x : out) x = w_.index(size);
  }

  void expr(Expr& e) {
    e.resize(w_.count());
    int64_t depth = 0;
    for (ExprOp& op : e) {
      op.code = static_cast<ExprCode>(w_.within(0, static_cast<int64_t>(ExprCode::kCount)));
      op.value = 0;
      op.real = 0;
      int64_t takes = 2;
      switch (op.code) {
        case ExprCode::kConst: case ExprCode::kInt:
          op.value = w_.any(); takes = 0; break;
        case ExprCode::kReal: op.real = w_.real(); takes = 0; break;
        case ExprCode::kNode: case ExprCode::kNone: takes = 0; break;
        case ExprCode::kField: op.value = w_.index(p_->field_cols.size()); takes = 1; break;
        case ExprCode::kArity: case ExprCode::kIndex: case ExprCode::kIsLeaf: case ExprCode::kIsNone:
        case ExprCode::kNeg: takes = 1; break;
        default: break;
      }
      if (op.code == ExprCode::kInt) check(op.value >= 0 && op.value < 64, Kind::kProgram, "an integer's position");
      depth += 1 - takes;
      check(depth >= 1 && depth <= 32, Kind::kProgram, "a structural expression is too deep or lacks operands");
    }
    check(depth == 1, Kind::kProgram, "a structural expression has one value");
  }

  void check_ints(const Expr& e, int32_t function) {
    for (const ExprOp& op : e)
      check(op.code != ExprCode::kInt || op.value < p_->functions[function].num_ints, Kind::kProgram,
            "an integer that the function has not");
  }

  void function(Function& f) {
    f.num_ints = static_cast<int32_t>(w_.within(0, 64));
    f.entry = w_.index(p_->blocks.size());
    indices(f.arg_ports, p_->ports.size());
    f.carried.resize(f.arg_ports.size());
    indices(f.out_ports, p_->ports.size());
    f.num_outputs = static_cast<int32_t>(f.out_ports.size());
    for (int32_t& c : f.carried) c = w_.index_or_none(f.out_ports.size());
  }

  void block(Block& b, int32_t id) {
    b.function = w_.index(p_->functions.size());
    b.parent = static_cast<int32_t>(w_.within(-1, id));  // parents come first
    indices(b.segments, p_->segments.size());
    indices(b.sites, p_->sites.size());
    b.end = static_cast<End>(w_.within(0, 4));
    if (b.end == End::kReturn) {
      indices(b.returns, p_->segments.size());
    } else if (b.end != End::kRaise) {
      if (b.end == End::kBranch) {
        expr(b.test);
      } else {
        b.test_segment = w_.index(p_->segments.size());
        b.test_port = w_.index(p_->ports.size());
      }
      b.exact = w_.flag();
      b.arms.resize(w_.count());
      for (int32_t& arm : b.arms) {
        b.answers.push_back(w_.any());
        arm = static_cast<int32_t>(w_.within(id + 1, p_->blocks.size()));
      }
    }
  }

  void site(Site& s) {
    s.block = w_.index(p_->blocks.size());
    s.callee = w_.index(p_->functions.size());
    s.for_each = w_.flag();
    s.needs_node = w_.flag();
    expr(s.node);
    s.ints.resize(w_.count());
    for (Expr& e : s.ints) expr(e);
    indices(s.captures, p_->segments.size());
    indices(s.carries, p_->segments.size());
  }

  void slot(Slot& s, size_t position) {
    s.kind = static_cast<SlotKind>(w_.within(0, 9));
    s.same_as = w_.index_or_none(position);
    s.cols = static_cast<int32_t>(w_.within(1, int64_t(1) << 31));
    s.gives = w_.flag();
    switch (s.kind) {
      case SlotKind::kValue: s.port = w_.index(p_->ports.size()); s.source = w_.index(p_->segments.size()); break;
      case SlotKind::kCall: case SlotKind::kSum: case SlotKind::kLast:
        s.port = w_.index(p_->ports.size());
        s.source = w_.index(p_->sites.size());
        s.output = static_cast<int32_t>(w_.within(0, int64_t(1) << 30));
        break;
      case SlotKind::kArg: s.port = w_.index(p_->ports.size()); s.source = static_cast<int32_t>(w_.within(0, 1 << 30)); break;
      case SlotKind::kLookup:
        s.table = w_.index(p_->table_rows.size());
        [[fallthrough]];
      case SlotKind::kField:
        s.source = w_.index(p_->field_cols.size());
        s.block = w_.index(p_->blocks.size());
        expr(s.expr);
        break;
      case SlotKind::kInteger: s.block = w_.index(p_->blocks.size()); expr(s.expr); break;
      case SlotKind::kRandom:
        s.block = w_.index(p_->blocks.size());
        s.draw = static_cast<int32_t>(w_.within(0, 3));
        s.stream = static_cast<uint64_t>(w_.any());
        s.x = w_.real();
        s.y = w_.real();
        break;
    }
  }

  void operand(Operand& o) {
    o.place = static_cast<Place>(w_.within(0, 8));
    o.id = static_cast<int32_t>(w_.within(0, int64_t(1) << 30));
    o.offset = w_.within(0, kMost);
    o.cols = w_.within(0, kMost);
  }

  void instr(Instr& i, const Segment* segment) {
    i.code = static_cast<Code>(w_.within(0, static_cast<int64_t>(Code::kCount)));
    i.in.resize(w_.count());
    for (Operand& o : i.in) { operand(o); check_operand(o, segment, false); }
    i.out.resize(w_.count());
    for (Operand& o : i.out) { operand(o); check_operand(o, segment, true); }
    i.n.resize(w_.count());
    for (int64_t& n : i.n) n = w_.within(0, kMost);
    i.x.resize(w_.count());
    for (double& x : i.x) x = w_.real();
    i.map.resize(w_.count());
    for (int32_t& m : i.map) m = static_cast<int32_t>(w_.within(-1, int64_t(1) << 31));
    if (i.code == Code::kEw) {
      i.ew.cols = static_cast<int32_t>(w_.within(0, int64_t(1) << 31));
      i.ew.inputs.resize(w_.count());
      for (EwInput& e : i.ew.inputs) { e.source = w_.index(i.in.size()); e.cell = w_.flag(); }
      i.ew.code.resize(w_.count());
      for (EwInstr& e : i.ew.code) {
        e.op = static_cast<EwOp>(w_.within(0, static_cast<int64_t>(EwOp::kCount)));
        e.a = static_cast<int32_t>(w_.within(-1, 1 << 20));
        e.b = static_cast<int32_t>(w_.within(-1, 1 << 20));
        e.c = static_cast<int32_t>(w_.within(-1, 1 << 20));
        e.scalar = w_.real();
      }
      i.ew.outputs.resize(w_.count());
      for (EwOutput& e : i.ew.outputs) {
        e.value = static_cast<int32_t>(w_.within(0, 1 << 20));
        e.target = w_.index(i.out.size());
      }
      auto meet = [](const Operand& a, const Operand& b) {
        return a.place == b.place && a.id == b.id && a.offset < b.offset + b.cols && b.offset < a.offset + a.cols;
      };
      for (const Operand& to : i.out)
        i.ew.apart.push_back(std::none_of(i.in.begin(), i.in.end(), [&](const Operand& from) { return meet(from, to); }));
      i.ew.prepare();
    }
    check_sizes(i);
  }

  void segment(Segment& s) {
    s.block = w_.index(p_->blocks.size());
    s.tail = w_.flag();
    s.tail_rank = static_cast<int32_t>(w_.within(0, 1 << 20));
    indices(s.out_ports, p_->ports.size());
    s.slots.resize(w_.count());
    for (size_t i = 0; i < s.slots.size(); ++i) slot(s.slots[i], i);
    for (std::vector<int64_t>* list : {&s.temps, &s.saved}) {
      list->resize(w_.count());
      for (int64_t& cols : *list) cols = w_.within(1, kMost);
    }
    for (std::vector<Instr>* list : {&s.forward, &s.backward, &s.over}) {
      list->resize(w_.count());
      for (Instr& i : *list) instr(i, &s);
    }
    for (int32_t port : s.out_ports) {
      int32_t layout = p_->ports[port].layout;
      bool known = false;
      for (int32_t l : s.layouts) known = known || l == layout;
      if (!known) s.layouts.push_back(layout);
    }
  }

  // The stride of an operand follows from its place; its columns must lie within a row.
  void check_operand(Operand& o, const Segment* s, bool written) {
    size_t id = static_cast<size_t>(o.id);
    auto has = [&](size_t size) { check(id < size, Kind::kProgram, "an operand names what is not there"); };
    if (s == nullptr)
      check(o.place == Place::kShared || o.place == Place::kZero, Kind::kProgram, "a prologue works on shared values");
    switch (o.place) {
      case Place::kTemp: has(s->temps.size()); o.stride = s->temps[id]; break;
      case Place::kSaved: has(s->saved.size()); o.stride = s->saved[id]; break;
      case Place::kOut: case Place::kOgrad:
        has(s->out_ports.size());
        o.stride = p_->ports[s->out_ports[id]].cols;
        check(o.place == Place::kOut || !written, Kind::kProgram, "a gradient that is given is not written");
        break;
      case Place::kSlot: case Place::kIgrad:
        has(s->slots.size());
        o.stride = s->slots[id].cols;
        check((o.place == Place::kIgrad) == written, Kind::kProgram, "a slot is read, its gradient written");
        break;
      case Place::kShared:
        has(p_->shared.size());
        o.stride = p_->shared[id].size;
        break;
      case Place::kZero:
        o.stride = o.cols;
        check(!written && o.offset == 0, Kind::kProgram, "zeros");
        p_->widest_zeros = std::max(p_->widest_zeros, o.cols);
        break;
    }
    check(o.offset + o.cols <= o.stride, Kind::kProgram, "an operand reaches over the end of its rows");
  }

  void check_sizes(const Instr& i) {
    auto sizes = [&](size_t in, size_t out, size_t n, size_t x) {
      check(i.in.size() == in && i.out.size() == out && i.n.size() == n && i.x.size() == x, Kind::kProgram,
            "an instruction has too many or too few operands");
    };
    auto want = [&](bool ok) { check(ok, Kind::kProgram, "the sizes of an instruction do not fit its operands"); };
    auto in = [&](size_t k) { return i.in[k].cols; };
    auto out = [&](size_t k) { return i.out[k].cols; };
    const std::vector<int64_t>& n = i.n;
    auto product = [&](std::initializer_list<int64_t> list) {
      double total = 1;
      for (int64_t v : list) total *= static_cast<double>(v);
      want(total <= static_cast<double>(kMost));
      return static_cast<int64_t>(total);
    };
    switch (i.code) {
      case Code::kEw:
        want(i.n.empty() && i.x.empty());
        for (const EwInput& e : i.ew.inputs) want(in(e.source) == (e.cell ? 1 : i.ew.cols));
        for (const EwOutput& e : i.ew.outputs) want(out(e.target) == i.ew.cols);
        break;
      case Code::kGemm:  // in: rows, matrix; n: repeat, n, k, turned
        sizes(2, 1, 4, 0);
        want(i.in[1].place == Place::kShared && n[3] < 2);
        want(in(0) == product({n[0], n[2]}) && out(0) == product({n[0], n[1]}) && in(1) == product({n[1], n[2]}));
        p_->largest_matrix = std::max(p_->largest_matrix, in(1));
        want(n[0] == 1 || (i.in[0].stride == in(0) && i.out[0].stride == out(0)));
        want(i.in[0].place != Place::kSlot && i.in[0].place != Place::kOgrad && i.in[0].place != Place::kZero);
        break;
      case Code::kMap:
        sizes(1, 1, 0, 0);
        want(static_cast<int64_t>(i.map.size()) == out(0));
        for (int32_t m : i.map) want(m < in(0));
        break;
      case Code::kReduce:  // n: kind, groups, length
        sizes(1, 1, 3, 0);
        want(n[0] <= static_cast<int64_t>(Reduction::kNanProd) && in(0) == product({n[1], n[2]}) && out(0) == n[1]);
        break;
      case Code::kSoft:  // n: kind, groups, length; x: temperature
        sizes(1, 1, 3, 1);
        want(n[0] <= static_cast<int64_t>(Soft::kSoftmin) && in(0) == product({n[1], n[2]}) && out(0) == in(0));
        break;
      case Code::kBdot:  // n: m, n, k, turn a, turn b
        sizes(2, 1, 5, 0);
        want(n[3] < 2 && n[4] < 2 && in(0) == product({n[0], n[2]}) && in(1) == product({n[1], n[2]}) &&
             out(0) == product({n[0], n[1]}));
        break;
      case Code::kPick:  // n: wrap, groups, length
        sizes(2, 1, 3, 0);
        want(n[2] > 0 && in(0) == product({n[1], n[2]}) && in(1) == n[1] && out(0) == n[1]);
        break;
      case Code::kOneHot:  // n: groups, length; x: on, off
        sizes(1, 1, 2, 2);
        want(in(0) == n[0] && out(0) == product({n[0], n[1]}));
        break;
      case Code::kGemmRows:  // out (n x k) += in0' in1; n: repeat, n, k
        sizes(2, 1, 3, 0);
        want(i.out[0].place == Place::kShared && in(0) == product({n[0], n[1]}) && in(1) == product({n[0], n[2]}) &&
             out(0) == product({n[1], n[2]}));
        want(i.in[0].place == Place::kSaved && i.in[1].place == Place::kSaved);
        want(n[0] == 1 || (i.in[0].stride == in(0) && i.in[1].stride == in(1)));
        break;
      case Code::kColumnSums:  // out += sums; n: repeat
        sizes(1, 1, 1, 0);
        want(i.out[0].place == Place::kShared && i.in[0].place == Place::kSaved && in(0) == product({n[0], out(0)}));
        want(n[0] == 1 || i.in[0].stride == in(0));
        break;
      default: want(false);
    }
  }

  // What can be checked only when all is there.
  void finish() {
    Program& p = *p_;
    for (size_t i = 0; i < p.blocks.size(); ++i) {
      Block& b = p.blocks[i];
      for (int32_t s : b.segments) {
        check(p.segments[s].block == static_cast<int32_t>(i), Kind::kProgram, "a segment stands in another block");
        p.segments[s].function = b.function;
      }
      for (int32_t s : b.sites) {
        check(p.sites[s].block == static_cast<int32_t>(i), Kind::kProgram, "a call stands in another block");
        p.sites[s].function = b.function;
      }
      for (int32_t arm : b.arms)
        check(p.blocks[arm].parent == static_cast<int32_t>(i), Kind::kProgram, "an arm has another parent");
      if (b.end == End::kReturn)
        check(b.returns.size() == p.functions[b.function].out_ports.size(), Kind::kProgram, "a return lacks values");
      for (size_t j = 0; j < b.returns.size(); ++j) {
        reaches(p.segments[b.returns[j]].block, static_cast<int32_t>(i));
        writes(b.returns[j], p.functions[b.function].out_ports[j]);
      }
      if (b.test_segment >= 0) {
        reaches(p.segments[b.test_segment].block, static_cast<int32_t>(i));
        writes(b.test_segment, b.test_port);
      }
      check_ints(b.test, b.function);
    }
    for (Function& f : p.functions) {
      check(p.blocks[f.entry].parent == -1, Kind::kProgram, "a function begins with its first block");
      check(p.blocks[f.entry].function == int32_t(&f - p.functions.data()), Kind::kProgram, "a function's block");
    }
    for (Site& s : p.sites) {
      Function& callee = p.functions[s.callee];
      check(s.captures.size() + s.carries.size() == callee.arg_ports.size(), Kind::kProgram, "a call's arguments");
      check(s.ints.size() + (s.for_each ? 1 : 0) == size_t(callee.num_ints), Kind::kProgram, "a call's integers");
      check(s.for_each || s.carries.empty(), Kind::kProgram, "only loops carry");
      for (size_t a = 0; a < s.captures.size(); ++a) {
        reaches(p.segments[s.captures[a]].block, s.block);
        writes(s.captures[a], callee.arg_ports[a]);
      }
      for (size_t a = 0; a < s.carries.size(); ++a) {
        reaches(p.segments[s.carries[a]].block, s.block);
        writes(s.carries[a], callee.arg_ports[s.captures.size() + a]);
        check(callee.carried[s.captures.size() + a] >= 0, Kind::kProgram, "a loop carries an output");
      }
      check_ints(s.node, s.function);
      for (Expr& e : s.ints) check_ints(e, s.function);
    }
    for (Segment& s : p.segments)
      for (Slot& slot : s.slots) {
        if (slot.port >= 0) check(slot.cols == p.ports[slot.port].cols, Kind::kProgram, "a slot is as wide as its port");
        if (slot.kind == SlotKind::kValue) {
          reaches(p.segments[slot.source].block, s.block);
          writes(slot.source, slot.port);
        }
        if (slot.kind == SlotKind::kArg)
          check(size_t(slot.source) < p.functions[s.function].arg_ports.size(), Kind::kProgram, "an argument");
        if (slot.kind == SlotKind::kCall || slot.kind == SlotKind::kSum || slot.kind == SlotKind::kLast) {
          Site& site = p.sites[slot.source];
          check(slot.output < p.functions[site.callee].num_outputs, Kind::kProgram, "an output of a call");
          check(site.for_each == (slot.kind != SlotKind::kCall), Kind::kProgram, "how a call is read");
          reaches(site.block, s.block);
        }
        if (slot.block >= 0) reaches(slot.block, s.block);
        if (slot.kind == SlotKind::kField) check(slot.cols == p.field_cols[slot.source], Kind::kProgram, "a field's row");
        if (slot.kind == SlotKind::kLookup) check(slot.cols == p.table_cols[slot.table], Kind::kProgram, "a table's row");
        check_ints(slot.expr, s.function);
        if (slot.same_as >= 0) check(s.slots[slot.same_as].same_as < 0, Kind::kProgram, "slots that are the same");
      }
    for (Function& f : p.functions)
      for (int32_t port : f.out_ports) check(port >= 0, Kind::kProgram, "an output's port");
  }

  // Whether `block` is `inner` or one of its ancestors.
  void reaches(int32_t block, int32_t inner) {
    while (inner >= 0 && inner != block) inner = p_->blocks[inner].parent;
    check(inner == block, Kind::kProgram, "a value is used where it is not defined");
  }

  void writes(int32_t segment, int32_t port) {
    bool found = false;
    for (int32_t p : p_->segments[segment].out_ports) found = found || p == port;
    check(found, Kind::kProgram, "a segment does not write the port that is read");
  }

  Words w_;
  std::unique_ptr<Program> p_;
};

}  // namespace

std::unique_ptr<Program> decode(const int64_t* words, size_t count) { return Decoder(words, count).run(); }

}  // namespace rg
