#include "slidegate/segment/segment.hpp"

#include <cerrno>
#include <sys/mman.h>
#include <sys/random.h>
#include <system_error>

#include "slidegate/values/errors.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace slidegate {

namespace {

constexpr std::uint64_t kCommitStep = 256U << 10;

// Cells of every size that a new segment has for sure.
constexpr std::uint64_t kFirstCommit = 32U << 10;

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

detail::Key128 random_secret() {
    detail::Key128 secret{};
    if (getrandom(secret.data(), sizeof secret, 0) != static_cast<ssize_t>(sizeof secret)) {
        throw SegmentError("no random bytes for the digest secret: " + std::generic_category().message(errno));
    }
    return secret;
}

}  // namespace

Segment::Segment(const Layout& layout, AfterFork after_fork) : layout_(layout), secret_(random_secret()) {
    map((after_fork == AfterFork::shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    header().birth = Birth::of(layout, secret_);
}

Segment::Segment(const Layout& layout, Place place, SegmentFile file)
    : layout_(layout), place_(std::move(place)), file_(std::move(file)) {
    map(MAP_SHARED, file_->descriptor());
}

void Segment::map(int flags, int descriptor) {
    for (std::size_t i = 0; i < arenas_.size(); ++i) {
        arenas_[i] = {layout_.arena_offset(i), layout_.owners_offset(i), layout_.arena_cells(i)};
    }
    bytes_ = layout_.bytes();
    void* const memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (memory == MAP_FAILED) {
        throw SegmentError("cannot reserve " + std::to_string(bytes_) +
                           " bytes of address space: " + std::generic_category().message(errno));
    }
    base_ = static_cast<std::byte*>(memory);
}

Segment::Segment(Segment&& other) noexcept
    : layout_(other.layout_),
      arenas_(other.arenas_),
      base_(std::exchange(other.base_, nullptr)),
      bytes_(other.bytes_),
      secret_(other.secret_),
      offset_(other.offset_),
      epoch_(other.epoch_),
      is_new_(other.is_new_),
      refused_at_(other.refused_at_.load(std::memory_order_relaxed)),
      place_(std::move(other.place_)),
      file_(std::move(other.file_)) {}

Segment::~Segment() {
    if (base_ != nullptr) {
        munmap(base_, bytes_);
    }
}

bool Segment::promise(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    // File systems that cannot allocate are made to by writing: the system does that without SIGBUS since Linux 5.14.
    return file_->allocate(offset, bytes) || madvise(base_ + offset, bytes, MADV_POPULATE_WRITE) == 0;
}

bool Segment::promise_first() const noexcept {
    bool has_room = promise(0, layout_.arena_offset(0)) && promise(layout_.statistics_offset(), sizeof(Statistics));
    for (std::size_t i = 0; i < arenas_.size() && has_room; ++i) {
        const std::uint64_t bytes = std::min(kFirstCommit, arena_bytes(i));
        has_room = extend(i, 0, bytes);
        header().arenas[i].committed.store(bytes, std::memory_order_relaxed);
    }
    return has_room;
}

bool Segment::promise_again() const noexcept {
    bool has_room = promise(0, layout_.arena_offset(0)) && promise(layout_.statistics_offset(), sizeof(Statistics));
    for (std::size_t i = 0; i < arenas_.size(); ++i) {
        const std::uint64_t bytes =
            std::min(header().arenas[i].committed.load(std::memory_order_relaxed), arena_bytes(i));
        has_room = has_room && (bytes == 0 || extend(i, 0, bytes));
    }
    return has_room;
}

bool Segment::extend(std::size_t arena, std::uint64_t from, std::uint64_t to) const noexcept {
    const auto promised = [&](std::uint64_t offset, std::uint64_t first, std::uint64_t end) {
        const std::uint64_t begin = first / kPage * kPage;
        return promise(offset + begin, whole_pages(end - begin));
    };
    const std::uint64_t size = kCellClasses[arena].bytes;
    return promised(arenas_[arena].owners, from / size * sizeof(Word), (to + size - 1) / size * sizeof(Word)) &&
           promised(arenas_[arena].offset, from, to);
}

bool Segment::commit(std::size_t arena, std::uint64_t index, Nanos now) const noexcept {
    if (!file_) {
        return true;
    }
    Word& committed = header().arenas[arena].committed;
    const std::uint64_t needed = (index + 1) * kCellClasses[arena].bytes;
    // Relaxed: that memory is there is seen by all as soon as the system has said so to one.
    std::uint64_t seen = committed.load(std::memory_order_relaxed);
    if (seen >= needed) {
        return true;
    }
    SegmentHeader::Shortage& shortage = header().shortage;
    const Nanos since_refused = now - refused_at_.load(std::memory_order_relaxed);
    if (refused_at_.load(std::memory_order_relaxed) != kNeverRefused && since_refused >= 0 &&
        since_refused < kAskAgain) {
        return false;
    }
    while (seen < needed) {
        std::uint64_t to = std::min(std::max(seen + kCommitStep, needed), arena_bytes(arena));
        bool is_whole = true;
        while (!extend(arena, seen, to)) {
            is_whole = false;
            if (to == needed) {
                refused_at_.store(now, std::memory_order_relaxed);
                std::uint64_t none = 0;
                if (shortage.since.compare_exchange_strong(none, static_cast<std::uint64_t>(now) + 1)) {
                    shortage.times.fetch_add(1, std::memory_order_relaxed);
                }
                return false;
            }
            // What is left may be less than a step.
            to = std::max(seen + (to - seen) / 2, needed);
        }
        if (is_whole && shortage.since.load(std::memory_order_relaxed) != 0) {
            shortage.is_told.store(0, std::memory_order_relaxed);
            shortage.since.store(0, std::memory_order_relaxed);
        }
        committed.compare_exchange_strong(seen, to, std::memory_order_relaxed);
    }
    refused_at_.store(kNeverRefused, std::memory_order_relaxed);
    return true;
}

bool Segment::is_short(Nanos now) const noexcept {
    for (std::size_t i = 0; i < arenas_.size() && header().shortage.since.load(std::memory_order_relaxed) != 0; ++i) {
        const std::uint64_t next = header().arenas[i].committed.load(std::memory_order_relaxed) / kCellClasses[i].bytes;
        static_cast<void>(next < arenas_[i].cells && commit(i, next, now));
    }
    return header().shortage.since.load(std::memory_order_relaxed) != 0;
}

}  // namespace slidegate
