#include "cuda/runtime/checks.h"

namespace accel::cuda {

int32_t Checks::add(const char* op, const char* code, const char* format) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < checks_.size(); i++) {
    const Check& known = checks_[i];
    if (known.op == op && known.code == code && known.format == format) return static_cast<int32_t>(i + 1);
  }
  checks_.push_back({op, code, format});
  return static_cast<int32_t>(checks_.size());
}

std::optional<Failure> Checks::found(const accel_device_error& error) {
  if (error.check == 0) return std::nullopt;
  std::lock_guard lock(mutex_);
  auto number = static_cast<size_t>(error.check);
  if (error.check < 0 || number > checks_.size()) {
    return Failure("ERR_ACCEL_INTERNAL", format_text("a kernel reported check %d, which does not exist", error.check));
  }
  const Check& check = checks_[number - 1];
  std::string text =
      format_text(check.format, static_cast<long long>(error.index), static_cast<long long>(error.value));
  const std::string op = std::string(check.op) + ": ";
  return Failure(check.code, text.starts_with(op) ? text : op + text);
}

}  // namespace accel::cuda
