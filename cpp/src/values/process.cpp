#include "slidegate/values/process.hpp"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/auxv.h>
#include <unistd.h>

namespace slidegate {

namespace {

// Fields of proc(5) after the name, which may hold anything: state is the third of the line, the start the 22nd.
constexpr int kFieldsToStart = 22 - 3;

}  // namespace

ProcessId ProcessId::of(std::uint64_t pid) noexcept {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/%llu/stat", static_cast<unsigned long long>(pid));
    const int file = pid == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return {};
    }
    char text[1024];
    const ssize_t size = read(file, text, sizeof text);
    close(file);
    std::string_view rest(text, size > 0 ? static_cast<std::size_t>(size) : 0);
    const std::size_t name_end = rest.rfind(") ");
    if (name_end == std::string_view::npos || name_end + 2 >= rest.size()) {
        return {};
    }
    rest.remove_prefix(name_end + 2);
    if (std::strchr("ZXx", rest.front()) != nullptr) {
        return {};
    }
    for (int i = 0; i < kFieldsToStart; ++i) {
        rest.remove_prefix(std::min(rest.find(' '), rest.size() - 1) + 1);
    }
    std::uint64_t start = 0;
    return std::from_chars(rest.data(), rest.data() + rest.size(), start).ec == std::errc() ? ProcessId{pid, start}
                                                                                            : ProcessId{};
}

std::span<const char> launch_secret() noexcept { return {reinterpret_cast<const char*>(getauxval(AT_RANDOM)), 16}; }

ProcessId ProcessId::self() noexcept { return of(static_cast<std::uint64_t>(getpid())); }

}  // namespace slidegate
