// Libraries of ops: the built-in one and those that method packages bring.
#ifndef ACCEL_COMMON_OP_LIBRARY_H
#define ACCEL_COMMON_OP_LIBRARY_H

#include <string>
#include <vector>

#include "accel/op.h"

namespace accel {

struct OpParameter {
  std::string name;
  accel_arg_kind kind;
  bool optional;
  bool encoded = false;  // a KV argument whose rows may be encoded
};

// An op with its signature taken apart, once.
struct OpEntry {
  const accel_op* op;
  std::vector<OpParameter> parameters;
};

struct OpLibrary {
  std::string name;
  std::string version;
  std::string path;  // empty for the built-in library
  std::vector<OpEntry> ops;
  std::vector<int32_t> ids;  // of the ops, process-wide
};

const OpLibrary& builtin_op_library();

// Loads a shared library; the same file gives the same library again. Throws ERR_ACCEL_OP_LIBRARY or ERR_ACCEL_OP_ABI.
const OpLibrary& load_op_library(const std::string& path);

// NULL when there is no such id.
const OpEntry* find_op(int32_t id);
// An op of the built-in library by name; throws when it is missing.
const OpEntry& builtin_op(const char* name);

}  // namespace accel
#endif
