// The rows of embedding tables that a run looks up, numbered in the core's own order: by segment, slot and row.
#pragma once

#include "plan.h"

namespace rg {

class Lookups {
 public:
  explicit Lookups(const Plan& plan) : plan_(plan) {}

  // Takes in the rows that were planned since the last time. Throws Fault kIndex for what a table has not.
  void number();
  void write(int32_t table, int32_t* to) const;  // which rows of a table, in order

  std::vector<int64_t> rows;               // by table: how many
  std::vector<std::vector<int64_t>> base;  // by segment, slot: the number of its first row
  std::vector<std::vector<Ids>> index;     // by segment, slot, row: which row of the table

 private:
  const Plan& plan_;
};

}  // namespace rg
