#include "slidegate/redis/command.hpp"

#include <memory>
#include <new>
#include <vector>

#include "hiredis.hpp"

namespace slidegate::redis {

std::string format_command(std::span<const std::string_view> arguments) {
    const Hiredis& library = hiredis();
    std::vector<const char*> starts;
    std::vector<std::size_t> lengths;
    starts.reserve(arguments.size());
    lengths.reserve(arguments.size());
    for (const std::string_view argument : arguments) {
        starts.push_back(argument.data());
        lengths.push_back(argument.size());
    }
    char* bytes = nullptr;
    const auto length =
        library.format_command(&bytes, static_cast<int>(arguments.size()), starts.data(), lengths.data());
    if (length < 0) {
        throw std::bad_alloc();
    }
    const std::unique_ptr<char, decltype(library.free_command)> owner(bytes, library.free_command);
    return std::string(bytes, static_cast<std::size_t>(length));
}

}  // namespace slidegate::redis
