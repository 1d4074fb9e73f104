// What Python's time.time() says, and whether it is the one that Python came with.
#pragma once

#include <cstdint>
#include <optional>

#include <Python.h>
#include <pybind11/pybind11.h>

#include "slidegate/values/clock.hpp"

namespace slidegate::bindings {

/// Microseconds since the epoch: what floats still tell apart in the year 2200.
using WallMicros = std::int64_t;

/// The wall clock as the machine has it, whatever Python says.
[[nodiscard]] inline WallMicros machine_wall_time() noexcept { return wall_now() / 1'000; }

/// What a fake of `time.time` says, and which fake it is: the same object as long as it is the same one.
struct FakedTime {
    WallMicros time;
    pybind11::object fake;
};

/// `time.time`, and whether tests have put something else in its place: either another object (freezegun, hiro, mocks), or
/// another function into the built-in object (time-machine). What was there before this was made does not matter.
///
/// Every member needs the GIL, in the one interpreter that the module lives in.
class WallTime {
  public:
    /// Throws error_already_set when Python cannot be looked into.
    WallTime();
    WallTime(const WallTime&) = delete;
    WallTime& operator=(const WallTime&) = delete;
    ~WallTime();

    /// Whether time.time() is Python's own. A look into one dictionary.
    [[nodiscard]] bool is_real() const noexcept {
        PyObject* function = PyDict_GetItemWithError(names_, name_);
        return function != nullptr && PyCFunction_CheckExact(function) &&
               reinterpret_cast<PyCFunctionObject*>(function)->m_ml == method_ && method_->ml_meth == genuine_;
    }
    /// The same, when it may be the first time that the function is Python's own since this was made.
    [[nodiscard]] bool is_real_now() noexcept;
    /// What time.time() says; nothing when it says nothing sensible. Runs Python code, so other threads may run meanwhile.
    /// A Python error is set only for what is no Exception, such as KeyboardInterrupt.
    [[nodiscard]] std::optional<FakedTime> read() const noexcept;

  private:
    PyObject* names_;      ///< dictionary of the time module
    PyObject* name_;       ///< "time", interned
    PyObject* read_;       ///< slidegate._support.clock.faked_time
    PyMethodDef* method_;  ///< static, what all built-in objects of time.time point to
    PyCFunction genuine_ = nullptr;
};

}  // namespace slidegate::bindings
