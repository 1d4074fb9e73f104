#include "slidegate/values/boot.hpp"

#include <charconv>
#include <fstream>
#include <string>
#include <sys/stat.h>

#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

constexpr const char* kBootIdFile = "/proc/sys/kernel/random/boot_id";

std::array<std::uint64_t, 2> boot_id() {
    std::string text;
    std::getline(std::ifstream(kBootIdFile), text);
    std::erase(text, '-');
    std::array<std::uint64_t, 2> id{};
    const char* const end = text.data() + text.size();
    const bool is_read = text.size() == 32 &&
                         std::from_chars(text.data(), text.data() + 16, id[0], 16).ec == std::errc() &&
                         std::from_chars(text.data() + 16, end, id[1], 16).ptr == end;
    if (!is_read) {
        throw SegmentError(std::string("named segments have to know which boot it is: cannot read it from ") +
                           kBootIdFile);
    }
    return id;
}

}  // namespace

BootMoment BootMoment::now() {
    struct stat its_namespace{};
    const bool has_namespaces = stat("/proc/self/ns/time", &its_namespace) == 0;
    return {{boot_id(), has_namespaces ? its_namespace.st_ino : 0}, BootClock().now(), wall_now()};
}

}  // namespace slidegate
