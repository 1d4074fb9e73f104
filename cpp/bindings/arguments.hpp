// Keys and costs of a call, read from Python without copying.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include <Python.h>

#include "slidegate/limiter/limiter.hpp"

namespace slidegate::bindings {

/// One key for all rules or a tuple with one for each. The views last as long as the Python arguments and this object.
class Keys {
  public:
    Keys() = default;
    Keys(const Keys&) = delete;
    Keys& operator=(const Keys&) = delete;
    ~Keys();
    /// False with a Python error set when it is not str, bytes, or a tuple of `rules` of them.
    [[nodiscard]] bool read(PyObject* argument, std::size_t rules) noexcept;
    [[nodiscard]] std::span<const std::string_view> get() const noexcept { return {views_.data(), size_}; }

  private:
    [[nodiscard]] bool add(PyObject* key) noexcept;

    std::array<std::string_view, kMaxRules> views_;
    std::size_t size_ = 0;
    std::array<PyObject*, kMaxRules> encoded_;
    std::size_t encoded_size_ = 0;
};

/// One cost for all rules or a tuple with one for each.
class Costs {
  public:
    /// False with a Python error set when it is not an int of at least 1, or a tuple of `rules` of them.
    [[nodiscard]] bool read(PyObject* argument, std::size_t rules) noexcept;
    /// The cost of a call that names none.
    void read_default() noexcept {
        values_[0] = 1;
        size_ = 1;
    }
    [[nodiscard]] std::span<const std::uint64_t> get() const noexcept { return {values_.data(), size_}; }

  private:
    [[nodiscard]] bool add(PyObject* cost) noexcept;

    std::array<std::uint64_t, kMaxRules> values_;
    std::size_t size_ = 0;
};

}  // namespace slidegate::bindings
