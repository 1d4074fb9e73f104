#include <stdexcept>

#include "slidegate/redis/command.hpp"
#include "slidegate/redis/reader.hpp"

namespace slidegate::redis {

namespace {

[[noreturn]] void fail() {
    throw std::runtime_error(
        "this slidegate was built without hiredis, which redis:// needs: install it (Debian: libhiredis-dev, conda: "
        "hiredis) and then slidegate again, from source");
}

}  // namespace

struct Reader::State {};

Reader::Reader() { fail(); }
Reader::~Reader() = default;
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
void Reader::feed(std::string_view) { fail(); }
std::optional<Reply> Reader::next() { fail(); }

std::string format_command(std::span<const std::string_view>) { fail(); }

}  // namespace slidegate::redis
