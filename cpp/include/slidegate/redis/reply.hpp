// What a Redis or Valkey server answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slidegate::redis {

/// A reply in RESP2. A value; the elements of an array are replies again.
struct Reply {
    enum class Type : std::uint8_t { nil, integer, text, error, array };

    Type type = Type::nil;
    long long integer = 0;
    std::string text;  ///< of a string, a status or an error; any bytes
    std::vector<Reply> elements;
};

}  // namespace slidegate::redis
