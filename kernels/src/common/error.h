// Errors inside the runtime. A Failure carries a code of AccelError (kernels/ts/errors.ts) and becomes one in JS.
#ifndef ACCEL_COMMON_ERROR_H
#define ACCEL_COMMON_ERROR_H

#include <exception>
#include <string>

namespace accel {

class Failure : public std::exception {
 public:
  Failure(std::string code, std::string message)
      : code_(std::move(code)), message_(std::move(message)) {}
  const std::string& code() const { return code_; }
  const std::string& message() const { return message_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string code_;
  std::string message_;
};

// Throws a Failure with a printf-formatted message.
[[noreturn]] void fail(const char* code, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

std::string format_text(const char* format, ...) __attribute__((format(printf, 1, 2)));

// "1.5 GiB": for messages.
std::string format_bytes(double bytes);

}  // namespace accel
#endif
