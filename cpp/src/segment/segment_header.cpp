#include "slidegate/segment/segment_header.hpp"

#include <cctype>
#include <unistd.h>

namespace slidegate {

namespace {

constexpr std::array<char, 8> kMagic = {'s', 'l', 'i', 'd', 'e', 'g', 'a', 't'};
constexpr std::uint64_t kVersion = 6;
constexpr Nanos kLongest = Nanos{1} << 58;  // nine years: more than two of the longest windows

using Hasher = detail::SipHash<1, 3>;

std::uint64_t check_of(const void* data, std::size_t size) noexcept {
    return Hasher({0x736c696465676174, 0x652e6865616465}).finish(data, size)[0];
}

std::uint64_t shape_of_this_build() noexcept {
    Hasher shape({kPage, kSlots});
    for (const CellClass& each : kCellClasses) {
        shape.word(std::uint64_t{each.bytes} << 32 | std::uint64_t{each.ring} << 16 | each.positions);
    }
    for (const Nanos length : kTickLengths) {
        shape.word(static_cast<std::uint64_t>(length));
    }
    shape.word(std::uint64_t{sizeof(RuleEntry)} << 32 | sizeof(Statistics));
    return shape.finish(nullptr, 0)[0];
}

std::string quoted(const std::array<char, 8>& bytes) {
    std::string text = "'";
    for (const char each : bytes) {
        text += std::isprint(static_cast<unsigned char>(each)) != 0 ? each : '.';
    }
    return text + "'";
}

}  // namespace

Birth Birth::of(const Layout& layout, const detail::Key128& secret) {
    Birth birth;
    birth.magic = kMagic;
    birth.version = kVersion;
    birth.shape = shape_of_this_build();
    birth.layout = layout;
    birth.secret = secret;
    birth.uid = geteuid();
    return birth;
}

std::uint64_t Birth::expected_check() const noexcept { return check_of(this, offsetof(Birth, check)); }

std::string Birth::damage(std::uint64_t file_bytes) const {
    if (file_bytes < kPage) {
        return "it has " + std::to_string(file_bytes) + " bytes, less than a header";
    }
    if (magic != kMagic) {
        return "it begins with " + quoted(magic) + ", not with " + quoted(kMagic);
    }
    if (version != kVersion) {
        return "it is of version " + std::to_string(version) + ", and this is version " + std::to_string(kVersion);
    }
    if (check != expected_check()) {
        return "its header does not agree with its own checksum";
    }
    if (shape != shape_of_this_build()) {
        return "it was made by a build with other sizes of cells";
    }
    if (!layout.is_sound()) {
        return "its header tells of " + std::to_string(layout.buckets) + " buckets and " +
               std::to_string(layout.cell_bytes) + " bytes of cells, which cannot be";
    }
    if (file_bytes < layout.bytes()) {
        return "it has " + std::to_string(file_bytes) + " bytes of the " + std::to_string(layout.bytes()) +
               " that it should have";
    }
    return {};
}

std::uint64_t Epoch::expected_check() const noexcept { return check_of(this, offsetof(Epoch, check)); }

bool Epoch::is_sound() const noexcept {
    constexpr auto kMost = static_cast<Nanos>(Shared::kTimes);
    return number != 0 && check == expected_check() && offset > -kMost && offset < kMost && begun >= 0 && begun < kMost;
}

void Epoch::write(const BootId& its_boot, Nanos its_offset, Nanos its_begin, std::uint64_t its_number) noexcept {
    boot = its_boot;
    offset = its_offset;
    begun = its_begin;
    number = its_number;
    check = expected_check();
}

void Epoch::note(Nanos wall, Nanos table_now) noexcept {
    std::uint64_t seen = wall_ahead.load(std::memory_order_relaxed);
    const auto ahead = static_cast<std::uint64_t>(wall) - static_cast<std::uint64_t>(table_now);
    // Relaxed: the number is all that is handed over.
    while (static_cast<Nanos>(seen) < static_cast<Nanos>(ahead) &&
           !wall_ahead.compare_exchange_weak(seen, ahead, std::memory_order_relaxed)) {
    }
}

Epoch* SegmentHeader::epoch() noexcept {
    Epoch* const newer = epochs[0].number > epochs[1].number ? &epochs[0] : &epochs[1];
    Epoch* const older = newer == &epochs[0] ? &epochs[1] : &epochs[0];
    return newer->is_sound() ? newer : older->is_sound() ? older : nullptr;
}

std::string SegmentHeader::damage() noexcept {
    const Epoch* const counting = epoch();
    if (counting == nullptr) {
        return "neither of its records of a boot is whole";
    }
    // Tables that are told the time by hand may be ahead of the machine, but not by so much.
    const Nanos floor = Shared::read(shared.floor.load(std::memory_order_relaxed));
    if (floor - counting->begun > kLongest) {
        return "its latest hit is " + std::to_string((floor - counting->begun) / 1'000'000'000) +
               " s after its last start, which cannot be";
    }
    return {};
}

void SegmentHeader::begin(const BootMoment& moment) noexcept {
    epochs[0].write(moment.id, 0, 0, 1);
    epochs[0].note(moment.wall, moment.since_boot);
}

void SegmentHeader::rebase(const Epoch& last, const BootMoment& moment) noexcept {
    Epoch& next = &last == &epochs[0] ? epochs[1] : epochs[0];
    // Stamps may be ahead of the floor as ever, by no more than kStep.
    const Nanos end = Shared::read(shared.floor.load(std::memory_order_relaxed));
    const auto last_wall = static_cast<Nanos>(static_cast<std::uint64_t>(end) + last.wall_ahead.load());
    const Nanos offset = rebased_offset(end, last_wall, last.boot.boot != moment.id.boot, moment);
    const Nanos begun = offset + moment.since_boot;
    next.wall_ahead = static_cast<std::uint64_t>(moment.wall - begun);
    // Not the floor: a caller killed between raising that and this would have it taken for a hit of this boot's.
    next.write(moment.id, offset, begun, last.number + 1);
}

Nanos rebased_offset(Nanos last, Nanos last_wall, bool is_later_boot, const BootMoment& moment) noexcept {
    const auto by_wall =
        static_cast<Nanos>(static_cast<std::uint64_t>(moment.wall) - static_cast<std::uint64_t>(last_wall));
    const Nanos least = is_later_boot ? moment.since_boot : 0;
    return last + std::clamp(by_wall, least, std::max(least, kLongest)) - moment.since_boot;
}

}  // namespace slidegate
