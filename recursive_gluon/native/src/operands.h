// Where the operands of an instruction lie, from what a run says of its own memory: host memory of the workers, or that
// of a backend. `Run` is a template parameter because this is asked for every tile.
#pragma once

#include "plan.h"

namespace rg {

template <class T, class Run>
struct Operands {
  static Source<T> source(const Run& run, const Batch& b, const Operand& o, int64_t row) {
    switch (o.place) {
      case Place::kTemp: return {run.temp(b, o.id) + row * o.stride + o.offset, o.stride, nullptr, nullptr};
      case Place::kSaved: return {run.saved(b, o, row), o.stride, nullptr, nullptr};
      case Place::kOut: return {out(run, b, o, row), o.stride, nullptr, nullptr};
      case Place::kShared: return {run.shared(o.id) + o.offset, 0, nullptr, nullptr};
      case Place::kZero: return {run.zeros(), 0, nullptr, nullptr};
      case Place::kOgrad: {
        int32_t port = run.p_.segments[b.segment].out_ports[o.id];
        return {run.given_port(port) + o.offset, o.stride, run.given_rows(port),
                run.given_start(port) + out_row(run, b, port) + row};
      }
      case Place::kSlot: return slot(run, b, o, b.start + row);
      default: throw Error(Kind::kInternal, "an operand that is not read");
    }
  }

  static Target<T> target(const Run& run, const Batch& b, const Operand& o, int64_t row) {
    switch (o.place) {
      case Place::kTemp: return {run.temp(b, o.id) + row * o.stride + o.offset, o.stride};
      case Place::kSaved: return {run.saved(b, o, row), o.stride};
      case Place::kOut: return {out(run, b, o, row), o.stride};
      case Place::kShared: return {const_cast<T*>(run.shared(o.id)) + o.offset, o.stride};
      case Place::kIgrad: {
        const Slot& slot = run.p_.segments[b.segment].slots[o.id];
        int64_t base = b.start + row;
        if (slot.kind == SlotKind::kLookup)
          return {run.table_grad(slot.table) + (run.lookups_.base[b.segment][o.id] + base) * o.stride + o.offset, o.stride};
        T* given = slot.kind == SlotKind::kField ? run.given_field(slot.source) : run.given_port(slot.port);
        return {given + (run.plan_.given_base[b.segment][o.id] + base) * o.stride + o.offset, o.stride};
      }
      default: throw Error(Kind::kInternal, "an operand that is not written");
    }
  }

 private:
  static int64_t out_row(const Run& run, const Batch& b, int32_t port) {
    const Segment& segment = run.p_.segments[b.segment];
    size_t l = 0;
    while (segment.layouts[l] != run.p_.ports[port].layout) ++l;
    return b.out_start[l];
  }
  static T* out(const Run& run, const Batch& b, const Operand& o, int64_t row) {
    int32_t port = run.p_.segments[b.segment].out_ports[o.id];
    return run.port(port) + (out_row(run, b, port) + row) * o.stride + o.offset;
  }
  // `row` counts in the segment's own order.
  static Source<T> slot(const Run& run, const Batch& b, const Operand& o, int64_t row) {
    int32_t s = b.segment;
    const Slot& slot = run.p_.segments[s].slots[o.id];
    int32_t rows = slot.same_as < 0 ? o.id : slot.same_as;
    switch (slot.kind) {
      case SlotKind::kField: return {run.field(slot.source) + o.offset, o.stride, run.slot_index(s, rows) + row, nullptr};
      case SlotKind::kLookup: {
        const T* table = run.table(slot.table) + o.offset;
        if (!run.rows_given()) return {table, o.stride, run.lookup_index(s, o.id) + row, nullptr};
        return {table + (run.lookups_.base[s][o.id] + row) * o.stride, o.stride, nullptr, nullptr};
      }
      case SlotKind::kInteger: case SlotKind::kRandom:
        return {run.made(s, o.id) + row * o.stride + o.offset, o.stride, nullptr, nullptr};
      case SlotKind::kSum:
        return {run.port(slot.port) + o.offset, o.stride, run.slot_index(s, rows), run.slot_start(s, rows) + row};
      default: return {run.port(slot.port) + o.offset, o.stride, run.slot_index(s, rows) + row, nullptr};
    }
  }
};

}  // namespace rg
