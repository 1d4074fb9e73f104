// What a call throws, as text.
#pragma once

#include <string>

namespace slidegate::testing {

/// what() of the `Error` that `call` throws; empty when it throws nothing. Other errors pass.
template <class Error, class Call>
[[nodiscard]] std::string message_of(Call&& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

[[nodiscard]] inline bool mentions(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace slidegate::testing
