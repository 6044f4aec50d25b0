// Rows that come from the host in every run: fields in the run's precision, integers of frames, random draws.
#pragma once

#include <algorithm>

#include "draws.h"
#include "memory.h"
#include "plan.h"

namespace rg {

// A field's rows as T: where they lie, or a copy in `to`.
template <class T>
const T* field_rows(const FieldView& field, Buffer<T>& to) {
  if (field.type == (sizeof(T) == 4 ? 0 : 1)) return static_cast<const T*>(field.data);
  int64_t size = field.rows * field.cols;
  to.reserve(std::max<int64_t>(size, 1));
  for (int64_t i = 0; i < size; ++i) to.data()[i] = static_cast<T>(field.at(i));
  return to.data();
}

inline bool is_made(const Slot& slot) { return slot.kind == SlotKind::kInteger || slot.kind == SlotKind::kRandom; }

// Row `row` of segment `s` for a slot that is_made().
template <class T>
void make_row(const Plan& plan, size_t s, const Slot& slot, int64_t row, uint64_t seed, T* to) {
  const Segment& segment = plan.program.segments[s];
  int64_t entry = plan.frames.entry_in(slot.block, segment.block, plan.segment_entries[s][row]);
  int64_t frame = plan.frames.block_frames[slot.block][entry];
  if (slot.kind == SlotKind::kInteger) {
    to[0] = static_cast<T>(plan.frames.evaluate(slot.expr, segment.function, frame).value());
    return;
  }
  check(plan.program.keyed, Kind::kProgram, "draws need keys");
  draw(slot.draw, slot.x, slot.y, slot.stream, seed, plan.frames.tables[segment.function].key[frame], slot.cols, to);
}

}  // namespace rg
