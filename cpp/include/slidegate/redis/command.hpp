// Bytes from commands.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace slidegate::redis {

/// A command as it goes over the wire. `arguments` begin with its name, and may hold any bytes. Throws std::runtime_error
/// that says what is missing where hiredis cannot be loaded. Thread-safe.
[[nodiscard]] std::string format_command(std::span<const std::string_view> arguments);

}  // namespace slidegate::redis
