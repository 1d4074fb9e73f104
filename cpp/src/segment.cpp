#include "slidegate/segment.hpp"

#include <cerrno>
#include <string>
#include <sys/mman.h>
#include <sys/random.h>
#include <system_error>

#include "slidegate/errors.hpp"

namespace slidegate {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::uint64_t kMaxCells = std::uint64_t{1} << 26;  // what the index can name in one arena

constexpr std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

detail::Key128 random_secret() {
    detail::Key128 secret{};
    if (getrandom(secret.data(), sizeof secret, 0) != static_cast<ssize_t>(sizeof secret)) {
        throw SegmentError("no random bytes for the digest secret: " + std::generic_category().message(errno));
    }
    return secret;
}

}  // namespace

Layout Layout::for_size(std::size_t bytes) {
    if (bytes < kMinSize || bytes > kMaxSize) {
        throw InvalidArgument("size must be from " + std::to_string(kMinSize) + " to " + std::to_string(kMaxSize) +
                              " bytes, not " + std::to_string(bytes));
    }
    const std::uint64_t buckets = std::bit_floor(bytes / 8 / sizeof(Bucket));
    return {buckets, bytes - buckets * sizeof(Bucket)};
}

std::uint64_t Layout::arena_cells(std::size_t index) const noexcept {
    return std::min(kMaxCells, (guaranteed_bytes() + shared_bytes()) / kCellClasses[index].bytes + 1);
}

Segment::Segment(const Layout& layout) : layout_(layout) {
    std::size_t end = kPage;
    index_offset_ = end;
    end += whole_pages(layout.buckets * sizeof(Bucket));
    for (std::size_t i = 0; i < kCellClasses.size(); ++i) {
        arena_offsets_[i] = end;
        end += whole_pages(layout.arena_cells(i) * kCellClasses[i].bytes);
    }
    bytes_ = end;
    const detail::Key128 secret = random_secret();
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        throw SegmentError("cannot reserve " + std::to_string(bytes_) +
                           " bytes of address space: " + std::generic_category().message(errno));
    }
    base_ = static_cast<std::byte*>(memory);
    header().secret = secret;
}

Segment::~Segment() { munmap(base_, bytes_); }

}  // namespace slidegate
