#include "common/op_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "common/command.h"
#include "common/error.h"
#include "cpu/builtin.h"

namespace accel {
namespace {

// Leaked, as the libraries are: an op may be running while the process exits. Entries never move or go.
struct Registry {
  std::shared_mutex mutex;
  std::map<std::string, OpLibrary*> by_path;
  std::vector<const OpEntry*> ops;
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

std::string trim(const std::string& text) {
  size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

OpParameter parse_parameter(const std::string& text, const char* library, const accel_op& op) {
  size_t colon = text.find(':');
  std::string name = trim(text.substr(0, colon));
  std::string type = colon == std::string::npos ? "" : trim(text.substr(colon + 1));
  if (!name.empty()) {
    if (type == "tensor") return {name, ACCEL_ARG_TENSOR, false};
    if (type == "tensor?") return {name, ACCEL_ARG_TENSOR, true};
    if (type == "int") return {name, ACCEL_ARG_INT, false};
    if (type == "float") return {name, ACCEL_ARG_FLOAT, false};
    if (type == "ints") return {name, ACCEL_ARG_INTS, false};
    if (type == "kv") return {name, ACCEL_ARG_KV, false};
    if (type == "kv+") return {name, ACCEL_ARG_KV, false, true};
  }
  fail("ERR_ACCEL_OP_LIBRARY",
       "op library %s: the signature of %s has \"%s\"; write name:type with type tensor, tensor?, int, float, ints, kv or kv+",
       library, op.name, text.c_str());
}

OpEntry parse(const char* library, const accel_op& op) {
  if (!op.name || !op.signature) {
    fail("ERR_ACCEL_OP_LIBRARY", "op library %s has an op without a name or a signature", library);
  }
  if (!op.cpu && !op.cuda) {
    fail("ERR_ACCEL_OP_LIBRARY", "op library %s: %s has neither a CPU nor a CUDA function", library, op.name);
  }
  OpEntry entry{&op, {}};
  std::string signature = op.signature;
  for (size_t begin = 0; begin <= signature.size() && !trim(signature).empty();) {
    size_t comma = std::min(signature.find(',', begin), signature.size());
    entry.parameters.push_back(parse_parameter(signature.substr(begin, comma - begin), library, op));
    begin = comma + 1;
  }
  if (entry.parameters.size() > kMaxArgs) {
    fail("ERR_ACCEL_OP_LIBRARY", "op library %s: %s has %zu arguments, at most %d are possible", library, op.name,
         entry.parameters.size(), kMaxArgs);
  }
  return entry;
}

OpLibrary* read_table(const accel_op_library& table, const std::string& path) {
  auto library = std::make_unique<OpLibrary>();
  library->name = table.name ? table.name : "";
  library->version = table.version ? table.version : "";
  library->path = path;
  for (int32_t i = 0; i < table.count; i++) library->ops.push_back(parse(library->name.c_str(), table.ops[i]));
  Registry& known = registry();
  for (const OpEntry& entry : library->ops) {
    library->ids.push_back(static_cast<int32_t>(known.ops.size()));
    known.ops.push_back(&entry);
  }
  return library.release();
}

}  // namespace

const OpLibrary& builtin_op_library() {
  static OpLibrary* library = [] {
    std::unique_lock lock(registry().mutex);
    return read_table(*cpu::builtin_library(), "");
  }();
  return *library;
}

const OpLibrary& load_op_library(const std::string& path) {
  Registry& known = registry();
  std::unique_lock lock(known.mutex);
  if (auto found = known.by_path.find(path); found != known.by_path.end()) return *found->second;
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    fail("ERR_ACCEL_OP_LIBRARY", "cannot load the op library: %s. Build the package's native code first (pnpm build:native)",
         dlerror());
  }
  auto get = reinterpret_cast<accel_op_library_get_fn>(dlsym(handle, "accel_op_library_get"));
  if (!get) {
    dlclose(handle);
    fail("ERR_ACCEL_OP_LIBRARY", "%s is not an op library: it does not export accel_op_library_get", path.c_str());
  }
  const accel_op_library* table = get(ACCEL_OP_ABI);
  if (!table) {
    dlclose(handle);
    fail("ERR_ACCEL_OP_LIBRARY", "the op library %s returned no table", path.c_str());
  }
  if (table->abi != ACCEL_OP_ABI) {
    std::string message = format_text(
        "the op library %s was built with op ABI %u, this runtime has op ABI %u: rebuild the package against the "
        "installed @accel/kernels",
        path.c_str(), table->abi, ACCEL_OP_ABI);
    dlclose(handle);
    throw Failure("ERR_ACCEL_OP_ABI", message);
  }
  OpLibrary* library = read_table(*table, path);
  known.by_path[path] = library;
  return *library;
}

const OpEntry* find_op(int32_t id) {
  Registry& known = registry();
  std::shared_lock lock(known.mutex);
  return id >= 0 && id < static_cast<int32_t>(known.ops.size()) ? known.ops[id] : nullptr;
}

const OpEntry& builtin_op(const char* name) {
  for (const OpEntry& entry : builtin_op_library().ops) {
    if (std::strcmp(entry.op->name, name) == 0) return entry;
  }
  fail("ERR_ACCEL_INTERNAL", "the built-in op %s is missing", name);
}

}  // namespace accel
