// Typed errors of the engine. Only construction and configuration throw; a refused hit is a value.
#pragma once

#include <stdexcept>

namespace slidegate {

/// A quota that no cell can hold; what() names the value and the permitted range.
class InvalidQuota : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

/// A limiter, policy or call that is put together wrongly; what() names the argument.
class InvalidArgument : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

/// Memory for a segment could not be reserved; what() carries the system's reason.
class SegmentError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace slidegate
