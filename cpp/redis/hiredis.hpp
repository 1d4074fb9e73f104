// The library hiredis, loaded when it is first needed: who counts without a server can do without it.
#pragma once

#include <hiredis/hiredis.h>

namespace slidegate::redis {

/// The functions of hiredis that are used here.
struct Hiredis {
    decltype(&redisReaderCreateWithFunctions) create_reader;
    decltype(&redisReaderFree) free_reader;
    decltype(&redisReaderFeed) feed;
    decltype(&redisReaderGetReply) get_reply;
    decltype(&redisFormatCommandArgv) format_command;
    decltype(&redisFreeCommand) free_command;
};

/// Loaded once, and kept. Throws std::runtime_error that names what is missing; the next call looks again. Thread-safe.
[[nodiscard]] const Hiredis& hiredis();

}  // namespace slidegate::redis
