// A recipe as the core runs it: functions, blocks, call sites, segments with their instructions; decoded from the words
// that runtime/core/encode.py writes, and checked.
#pragma once

#include <memory>
#include <vector>

#include "common.h"
#include "kernels.h"

namespace rg {

// -- structural expressions: postfix code --------------------
enum class ExprCode : int32_t {
  kConst, kReal, kInt, kNode, kNone, kChild, kArity, kIndex, kIsLeaf, kIsNone, kField,
  kAdd, kSub, kMul, kFloorDiv, kMod, kNeg, kEq, kNe, kLt, kLe, kGt, kGe, kCount
};
struct ExprOp {
  ExprCode code;
  int64_t value;  // a number, the position of an integer, or a field
  double real;
};
using Expr = std::vector<ExprOp>;

struct Function {
  int32_t num_ints = 0, num_outputs = 0, entry = 0;
  std::vector<int32_t> arg_ports;
  std::vector<int32_t> carried;    // of each argument: the output that the frame before gives, or -1
  std::vector<int32_t> out_ports;
  bool shared() const { return arg_ports.empty(); }  // calls on the same node with the same integers are one frame
};

struct Site {
  int32_t block = 0, function = 0, callee = 0;
  bool for_each = false;
  bool needs_node = true;
  Expr node;
  std::vector<Expr> ints;
  std::vector<int32_t> captures, carries;  // the segments that make them
};

enum class End : int32_t { kReturn, kBranch, kValueBranch, kRaise };
struct Block {
  int32_t function = 0, parent = -1;
  std::vector<int32_t> segments, sites;
  End end = End::kReturn;
  std::vector<int32_t> returns;     // the segment that makes each output
  Expr test;
  int32_t test_segment = -1, test_port = -1;
  bool exact = false;               // arms are numbers, else 0 and 1
  std::vector<int64_t> answers;
  std::vector<int32_t> arms;
};

// -- segments --------------------
enum class SlotKind : int32_t { kValue, kCall, kSum, kLast, kArg, kField, kInteger, kRandom, kLookup };
struct Slot {
  SlotKind kind = SlotKind::kValue;
  int32_t same_as = -1;    // an earlier slot of the segment that reads the same rows
  int32_t port = -1;       // kValue, kCall, kSum, kLast, kArg
  int32_t source = -1;     // a segment, a call site, an argument, a field
  int32_t output = 0;      // of the callee
  int32_t block = -1;      // where a field, integer or draw stands in the program
  int32_t table = -1;      // kLookup: the embedding table
  bool gives = false;      // a gradient is given back
  int32_t cols = 0;
  Expr expr;
  int32_t draw = 0;        // kRandom: 0 dropout, 1 uniform, 2 normal
  uint64_t stream = 0;
  double x = 0, y = 0;
};

// What an instruction reads or writes; `offset` columns from the row's begin, rows `stride` elements apart.
enum class Place : int32_t { kTemp, kSaved, kOut, kSlot, kShared, kOgrad, kIgrad, kZero };
struct Operand {
  Place place = Place::kTemp;
  int32_t id = 0;          // a buffer, an output of the segment, a slot, a shared value
  int64_t offset = 0, cols = 0, stride = 0;
};

enum class Code : int32_t {
  kEw, kGemm, kMap, kReduce, kSoft, kBdot, kPick, kOneHot,  // rows of a batch
  kGemmRows, kColumnSums,                                   // sums over all rows: gradients of what is shared
  kCount
};
struct Instr {
  Code code = Code::kEw;
  std::vector<Operand> in, out;
  std::vector<int64_t> n;  // sizes, as the code asks for
  std::vector<double> x;
  EwProgram ew;
  std::vector<int32_t> map;
};

struct Segment {
  int32_t block = 0, function = 0;
  bool tail = false;
  int32_t tail_rank = 0;
  std::vector<int32_t> out_ports;          // the ports of its outputs
  std::vector<int32_t> layouts;            // distinct layouts of its outputs
  std::vector<Slot> slots;
  std::vector<int64_t> temps, saved;       // columns of each buffer; temps are a batch's, saved all rows'
  std::vector<Instr> forward, backward, over;
  std::vector<uint8_t> temp_uses, saved_uses, slot_uses;  // of each: bits of Use
  std::vector<int32_t> self;               // its own number alone
};
enum Use : uint8_t { kForward = 1, kBackward = 2, kOver = 4 };

struct Port {
  int64_t cols = 0;
  int32_t layout = 0;
  bool floating = true;
  bool read_back = false;                  // backward reads its rows
  std::vector<int32_t> users, given_users; // segments that use its rows forward; their gradients
};

// A shared value: a parameter, or what the caller computed from parameters alone.
struct Shared {
  int64_t size = 0;
  bool gradient = false;
};

// A shared value that is computed here, once per run: `code` on one row.
struct Program {
  int32_t scalar = 4;                      // bytes of a number: 4 or 8
  bool keep = false, keyed = false;
  int32_t root = 0, layouts = 0;
  int64_t widest_zeros = 1;                // columns of the widest operand of zeros
  int64_t largest_matrix = 0;              // elements of the largest that a batch is multiplied by
  std::vector<Function> functions;
  std::vector<Block> blocks;
  std::vector<Site> sites;
  std::vector<Segment> segments;
  std::vector<Port> ports;
  std::vector<Shared> shared;              // inputs first
  int32_t shared_inputs = 0;
  std::vector<Instr> prologue;
  std::vector<int64_t> field_cols;         // of each field that is read; 0: only expressions read it
  std::vector<int64_t> table_rows, table_cols;  // of the embedding tables
};

// Decodes and checks a program; throws Error kProgram.
std::unique_ptr<Program> decode(const int64_t* words, size_t count);

}  // namespace rg
