// The script that counts inside the server.
#pragma once

#include <string_view>

namespace slidegate::redis {

/// The text of cpp/redis/decide.lua.
[[nodiscard]] std::string_view script() noexcept;

/// The version of hiredis that this was built with; empty when there was none.
[[nodiscard]] std::string_view hiredis_version() noexcept;

}  // namespace slidegate::redis
