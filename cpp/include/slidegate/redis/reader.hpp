// Replies from bytes, as they come.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "slidegate/redis/reply.hpp"

namespace slidegate::redis {

/// The other side does not speak RESP2, or says more than this client ever asks for. The connection is to be closed.
class ProtocolError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The largest array, and the most bytes of an unfinished reply, that a reader takes.
inline constexpr std::size_t kMaxElements = 4096;
inline constexpr std::size_t kMaxUnread = std::size_t{1} << 20;

/// Parses a stream of replies, with hiredis. Not thread-safe. After a ProtocolError it is of no use.
class Reader {
  public:
    /// Throws std::runtime_error that says what is missing where hiredis cannot be loaded.
    Reader();
    ~Reader();
    Reader(Reader&&) noexcept;
    Reader& operator=(Reader&&) noexcept;

    /// Takes the next bytes of the stream, cut anywhere.
    void feed(std::string_view bytes);
    /// The next complete reply, if there is one.
    [[nodiscard]] std::optional<Reply> next();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace slidegate::redis
