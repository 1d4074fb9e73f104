#include "hiredis.hpp"

#include <dlfcn.h>
#include <stdexcept>
#include <string>

namespace slidegate::redis {

namespace {

// The sizes of its structures are those of the version whose header this was built with.
constexpr const char* kLibrary = SLIDEGATE_HIREDIS_LIBRARY;

[[noreturn]] void fail() {
    const char* const reason = dlerror();
    throw std::runtime_error(std::string("redis:// needs ") + kLibrary +
                             ", the library hiredis in the version that this slidegate was built with. It cannot be "
                             "loaded: " +
                             (reason != nullptr ? reason : "unknown error") +
                             ". Install hiredis (Debian: libhiredis-dev, conda: hiredis); if that is another version, "
                             "install slidegate again, from source");
}

template <typename Function>
void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) {
        fail();
    }
}

Hiredis load() {
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        fail();
    }
    Hiredis functions{};
    find(library, "redisReaderCreateWithFunctions", functions.create_reader);
    find(library, "redisReaderFree", functions.free_reader);
    find(library, "redisReaderFeed", functions.feed);
    find(library, "redisReaderGetReply", functions.get_reply);
    find(library, "redisFormatCommandArgv", functions.format_command);
    find(library, "redisFreeCommand", functions.free_command);
    return functions;
}

}  // namespace

const Hiredis& hiredis() {
    static const Hiredis loaded = load();
    return loaded;
}

}  // namespace slidegate::redis
