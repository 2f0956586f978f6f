// clock: the device's time in seconds, f64 [1], when the stream gets there. Two of them around other ops tell how long these
// took without anybody waiting. A GPU's is %globaltimer: nanoseconds since 1970, of which a double keeps quarter microseconds.
#include <chrono>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

int clock_check(const accel_call* call) {
  return Checker(call, "clock").dtype(0, "out", {Type::f64}).shape(0, "out", "[1]", {1}).result();
}

int clock(const accel_call* call) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  *data<double>(tensor(call, 0)) = std::chrono::duration<double>(now).count();
  call->ran(call, "clock");
  return ACCEL_OK;
}

const accel_op ops[] = {{"clock", "out:tensor", clock_check, clock, nullptr}};

}  // namespace

OpTable clock_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
