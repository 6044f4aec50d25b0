#include "lookups.h"

#include <cstring>

namespace rg {

void Lookups::number() {
  const Program& p = plan_.program;
  size_t segments = p.segments.size();
  rows.assign(p.table_rows.size(), 0);
  base.resize(segments);
  index.resize(segments);
  for (size_t s = 0; s < segments; ++s) {
    const Segment& segment = p.segments[s];
    base[s].assign(segment.slots.size(), 0);
    index[s].resize(segment.slots.size());
    for (size_t k = 0; k < segment.slots.size(); ++k) {
      const Slot& slot = segment.slots[k];
      if (slot.kind != SlotKind::kLookup) continue;
      base[s][k] = rows[slot.table];
      rows[slot.table] += plan_.segment_size[s];
      const FieldView& field = plan_.forest.fields[slot.source];
      const Ids& nodes = plan_.slots[s][k].index;
      Ids& found = index[s][k];
      for (size_t i = found.size(); i < nodes.size(); ++i) {
        double value = field.at(nodes[i]);
        if (!(value >= 0 && value < static_cast<double>(p.table_rows[slot.table]))) {
          int64_t bits;
          std::memcpy(&bits, &value, sizeof bits);
          throw Fault(Kind::kIndex, "a field looks up what the table has not",
                      {segment.function, static_cast<int64_t>(s), static_cast<int64_t>(k), nodes[i], bits}, {});
        }
        found.push_back(static_cast<int64_t>(value));
      }
    }
  }
}

void Lookups::write(int32_t table, int32_t* to) const {
  const Program& p = plan_.program;
  for (size_t s = 0; s < p.segments.size(); ++s)
    for (size_t k = 0; k < p.segments[s].slots.size(); ++k) {
      const Slot& slot = p.segments[s].slots[k];
      if (slot.kind != SlotKind::kLookup || slot.table != table) continue;
      for (int64_t i : index[s][k]) *to++ = static_cast<int32_t>(i);
    }
}

}  // namespace rg
