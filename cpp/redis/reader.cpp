#include "slidegate/redis/reader.hpp"

#include <new>
#include <string>
#include <utility>

#include "hiredis.hpp"

namespace slidegate::redis {

namespace {

#if HIREDIS_MAJOR >= 1
using ElementCount = std::size_t;
#else
using ElementCount = int;
#endif

// hiredis calls these from C: null stands for no memory, and nothing may be thrown. A reply below another one is made in its
// place there; the elements never move, as an array gets all of them at once.
Reply* place_of(const redisReadTask* task, Reply::Type type) noexcept {
    Reply* reply = nullptr;
    if (task->parent == nullptr) {
        reply = new (std::nothrow) Reply;
        if (reply == nullptr) {
            return nullptr;
        }
    } else {
        reply = &static_cast<Reply*>(task->parent->obj)->elements[static_cast<std::size_t>(task->idx)];
    }
    reply->type = type;
    return reply;
}

// What hiredis does not own yet is freed here; what lies in another reply is freed with that one.
void* no_memory(const redisReadTask* task, Reply* reply) noexcept {
    if (task->parent == nullptr) {
        delete reply;
    }
    return nullptr;
}

void* create_string(const redisReadTask* task, char* text, std::size_t length) noexcept {
    Reply* reply = place_of(task, task->type == REDIS_REPLY_ERROR ? Reply::Type::error : Reply::Type::text);
    if (reply != nullptr) {
        try {
            reply->text.assign(text, length);
        } catch (const std::bad_alloc&) {
            return no_memory(task, reply);
        }
    }
    return reply;
}

void* create_array(const redisReadTask* task, ElementCount count) noexcept {
    const auto size = static_cast<std::size_t>(count);
    Reply* reply = size > kMaxElements ? nullptr : place_of(task, Reply::Type::array);
    if (reply != nullptr) {
        try {
            reply->elements.resize(size);
        } catch (const std::bad_alloc&) {
            return no_memory(task, reply);
        }
    }
    return reply;
}

void* create_integer(const redisReadTask* task, long long value) noexcept {
    Reply* reply = place_of(task, Reply::Type::integer);
    if (reply != nullptr) {
        reply->integer = value;
    }
    return reply;
}

void* create_nil(const redisReadTask* task) noexcept { return place_of(task, Reply::Type::nil); }

void free_reply(void* reply) noexcept { delete static_cast<Reply*>(reply); }

redisReplyObjectFunctions make_functions() noexcept {
    redisReplyObjectFunctions functions = {};
    functions.createString = &create_string;
    functions.createArray = &create_array;
    functions.createInteger = &create_integer;
    functions.createNil = &create_nil;
    functions.freeObject = &free_reply;
#if HIREDIS_MAJOR >= 1
    // Types of RESP3, which this client never asks for.
    functions.createDouble = [](const redisReadTask*, double, char*, std::size_t) noexcept -> void* { return nullptr; };
    functions.createBool = [](const redisReadTask*, int) noexcept -> void* { return nullptr; };
#endif
    return functions;
}

}  // namespace

struct Reader::State {
    const Hiredis& library = hiredis();
    redisReplyObjectFunctions functions = make_functions();
    std::unique_ptr<redisReader, decltype(library.free_reader)> reader{library.create_reader(&functions),
                                                                       library.free_reader};
};

Reader::Reader() : state_(std::make_unique<State>()) {
    if (!state_->reader) {
        throw std::bad_alloc();
    }
}
Reader::~Reader() = default;
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;

void Reader::feed(std::string_view bytes) {
    redisReader* reader = state_->reader.get();
    if (reader->len - reader->pos + bytes.size() > kMaxUnread) {
        throw ProtocolError("a reply of more than " + std::to_string(kMaxUnread) + " bytes");
    }
    if (state_->library.feed(reader, bytes.data(), bytes.size()) != REDIS_OK) {
        throw ProtocolError(reader->errstr);
    }
}

std::optional<Reply> Reader::next() {
    redisReader* reader = state_->reader.get();
    void* object = nullptr;
    if (state_->library.get_reply(reader, &object) != REDIS_OK) {
        throw ProtocolError(reader->errstr);
    }
    if (object == nullptr) {
        return std::nullopt;
    }
    const std::unique_ptr<Reply> reply(static_cast<Reply*>(object));
    return std::move(*reply);
}

}  // namespace slidegate::redis
