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

/// A segment could not be had; what() says which, why, and what would be right.
class SegmentError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Something stands there that is no segment of this version, or not all of one.
class SegmentDamaged : public SegmentError {
  public:
    using SegmentError::SegmentError;
};

/// It belongs to another user, or others may write to it.
class SegmentForeign : public SegmentError {
  public:
    using SegmentError::SegmentError;
};

/// It is sound, but of another size than was asked for.
class SegmentMismatch : public SegmentError {
  public:
    using SegmentError::SegmentError;
};

/// Others use it in a way that does not let this caller in.
class SegmentBusy : public SegmentError {
  public:
    using SegmentError::SegmentError;
};

/// There is none, and none was to be made.
class SegmentMissing : public SegmentError {
  public:
    using SegmentError::SegmentError;
};

}  // namespace slidegate
