#include <ctime>

#include "slidegate/segment/segment.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

using Lock = SegmentFile::Lock;

// Whoever makes a segment at the same time as others may not find the room that they will have given back in a moment, or find
// the one that they have made.
constexpr int kTriesForRoom = 20;
constexpr timespec kBetweenTries = {0, 10'000'000};

struct NoRoom : SegmentError {
    using SegmentError::SegmentError;
};

BootMoment moment_of(const Opening& opening) { return opening.moment ? *opening.moment : BootMoment::now(); }

[[noreturn]] void throw_busy(const Place& place, const char* why) {
    throw SegmentBusy(place.name + ": " + place.path + " is in use by others, " + why);
}

void check_size(const Place& place, const Opening& opening, const Layout& found) {
    const Layout& asked = opening.layout;
    if (asked.buckets != 0 ? asked != found : opening.size != 0 && opening.size != found.size()) {
        throw SegmentMismatch(place.name + ": " + place.path + " has a size of " + std::to_string(found.size()) +
                              " bytes, not " + std::to_string(asked.buckets != 0 ? asked.size() : opening.size) +
                              "; ask for that size or for none, or remove it");
    }
}

// So that what is asked for can be had, by this segment and another one.
std::size_t fitting_size(const Place& place) {
    constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;
    const auto free = SegmentFile::free_bytes(place);
    if (!free) {
        return kDefaultNamedSize;
    }
    const std::uint64_t half = *free / 2;
    const std::uint64_t fits = half - std::min<std::uint64_t>(half, sizeof(Statistics));
    return std::clamp<std::uint64_t>(fits / kMebibyte * kMebibyte, Layout::kMinSize, kDefaultNamedSize);
}

void remove_damaged(const Place& place, const Opening& opening, const SegmentFile& file, const std::string& damage) {
    if (opening.on_damage == OnDamage::error) {
        throw SegmentDamaged(place.name + ": " + place.path + " is damaged or no segment: " + damage +
                             "; remove it, or open it with on_damage=recreate");
    }
    if (!file.lock(Lock::exclusive, opening.patience_ms)) {
        throw_busy(place, ("and damaged: " + damage).c_str());
    }
    // Nobody else can be attached, and nobody will be: whoever has it open finds that it has lost its name.
    file.unlink(place);
}

}  // namespace

Segment Segment::shared(const std::string& name, const Opening& opening) { return open(Place::shared(name), opening); }

Segment Segment::file(const std::string& path, const Opening& opening) { return open(Place::file(path), opening); }

Segment Segment::open(const Place& place, const Opening& opening) {
    int tries_for_room = 0;
    // Whoever has to start again was overtaken by somebody else's creation, repair or removal.
    for (int attempt = 0; attempt < 1'000; ++attempt) {
        std::optional<SegmentFile> file = SegmentFile::find(place, opening.access);
        if (!file && !opening.may_create) {
            throw SegmentMissing(place.name + ": there is no " + place.path);
        }
        try {
            if (std::optional<Segment> segment =
                    file ? attach(place, opening, std::move(*file)) : create(place, opening)) {
                return std::move(*segment);
            }
        } catch (const NoRoom&) {
            if (++tries_for_room == kTriesForRoom) {
                throw;
            }
            nanosleep(&kBetweenTries, nullptr);
        }
    }
    throw_busy(place, "who make and remove it all the time");
}

std::optional<Segment> Segment::create(const Place& place, const Opening& opening) {
    const Layout layout = opening.layout.buckets != 0
                              ? opening.layout
                              : Layout::for_size(opening.size != 0 ? opening.size : fitting_size(place));
    const BootMoment moment = moment_of(opening);
    // Before what follows takes some of it.
    const auto free = SegmentFile::free_bytes(place);
    Segment segment(layout, place, SegmentFile::unnamed(place, layout.bytes(), opening.access));
    if (!segment.promise_first()) {
        throw NoRoom(place.name + ": no room for the beginning of a segment of " + std::to_string(layout.bytes()) +
                     " bytes at " + place.path +
                     (free ? ", where " + std::to_string(*free) + " bytes are free" : std::string()) +
                     "; make room there, or ask for a smaller size");
    }
    SegmentHeader& header = segment.header();
    Birth birth = Birth::of(layout, Segment(Layout{1, 1}).secret());
    birth.owner = opening.owner;
    birth.wall = moment.wall;
    birth.seal();
    header.birth = birth;
    header.begin(moment);
    segment.secret_ = birth.secret;
    segment.epoch_ = header.epoch();
    if (!segment.file_->lock(Lock::shared, 0)) {
        throw_busy(place, "though it has no name yet");
    }
    if (!segment.file_->publish(place)) {
        return std::nullopt;
    }
    segment.is_new_ = true;
    return segment;
}

std::optional<Segment> Segment::attach(const Place& place, const Opening& opening, SegmentFile file) {
    if (!file.lock(Lock::shared, opening.patience_ms)) {
        throw_busy(place, "who are mending it");
    }
    if (!file.is_at(place)) {
        return std::nullopt;
    }
    // A copy: what is checked must be what is used.
    Birth birth;
    file.read(&birth, sizeof birth);
    if (const std::string damage = birth.damage(file.size()); !damage.empty()) {
        remove_damaged(place, opening, file, damage);
        return std::nullopt;
    }
    Segment segment(birth.layout, place, std::move(file));
    if (const std::string damage = segment.header().damage(); !damage.empty()) {
        remove_damaged(place, opening, *segment.file_, damage);
        return std::nullopt;
    }
    Epoch* const epoch = segment.header().epoch();
    check_size(place, opening, birth.layout);
    const BootMoment moment = moment_of(opening);
    if (epoch->boot != moment.id) {
        segment.rebase(opening, moment);
        return std::nullopt;
    }
    // Copying a file can make holes of pages that hold nothing yet.
    if (place.may_be_a_link && !segment.promise_again()) {
        throw SegmentError(place.name + ": no room for all of " + place.path);
    }
    segment.secret_ = birth.secret;
    segment.epoch_ = epoch;
    segment.offset_ = epoch->offset;
    segment.header().shared.raise(epoch->begun);
    epoch->note(moment.wall, moment.since_boot + epoch->offset);
    return segment;
}

void Segment::rebase(const Opening& opening, const BootMoment& moment) {
    if (!file_->lock(Lock::exclusive, opening.patience_ms)) {
        throw_busy(place_, "who count in another namespace of times");
    }
    // Others had the lock before, perhaps.
    const Epoch* const epoch = header().epoch();
    if (epoch != nullptr && epoch->boot != moment.id) {
        header().rebase(*epoch, moment);
    }
}

void Segment::note_wall(Nanos table_now) const noexcept {
    if (epoch_ != nullptr) {
        epoch_->note(wall_now(), table_now);
    }
}

bool Segment::unlink() const { return file_ && file_->unlink(place_); }

}  // namespace slidegate
