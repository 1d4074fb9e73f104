#include "slidegate/segment/segment_list.hpp"

#include <algorithm>
#include <dirent.h>
#include <memory>
#include <optional>

#include "slidegate/segment/segment_file.hpp"
#include "slidegate/segment/segment_header.hpp"
#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

// Whatever this user has made it for.
constexpr std::uint32_t kAnyMode = 0777;

struct Found {
    SegmentInfo info;
    Place place;
    SegmentFile file;
};

std::optional<Found> look_at(const std::string& name) {
    try {
        const Place place = Place::shared(name);
        std::optional<SegmentFile> file = SegmentFile::find(place, {.mode = kAnyMode, .group = std::nullopt});
        if (!file) {
            return std::nullopt;
        }
        Birth birth;
        file->read(&birth, sizeof birth);
        SegmentInfo info{name, birth.damage(file->size()), 0, {}, 0};
        if (info.damage.empty()) {
            info.size = birth.layout.size();
            info.owner = birth.owner;
            info.born = birth.wall;
        }
        return Found{std::move(info), place, std::move(*file)};
    } catch (const std::exception&) {
        // Another user's, or nothing that can be opened by this name: not this user's to judge.
        return std::nullopt;
    }
}

std::vector<std::string> names() {
    const auto close = [](DIR* directory) { closedir(directory); };
    const std::unique_ptr<DIR, decltype(close)> directory(opendir(Place::shared_directory().c_str()), close);
    std::vector<std::string> found;
    if (directory != nullptr) {
        const std::string prefix = Place::shared_prefix();
        while (const dirent* entry = readdir(directory.get())) {
            const std::string name = entry->d_name;
            if (name.starts_with(prefix)) {
                found.push_back(name.substr(prefix.size()));
            }
        }
    }
    std::ranges::sort(found);
    return found;
}

}  // namespace

std::vector<SegmentInfo> shared_segments() {
    std::vector<SegmentInfo> all;
    for (const std::string& name : names()) {
        if (std::optional<Found> found = look_at(name)) {
            all.push_back(std::move(found->info));
        }
    }
    return all;
}

std::vector<std::string> remove_leftovers() {
    std::vector<std::string> removed;
    for (const std::string& name : names()) {
        const std::optional<Found> found = look_at(name);
        if (found && found->info.owner && !found->info.owner.is_alive() &&
            found->file.lock(SegmentFile::Lock::exclusive, 0)) {
            try {
                if (found->file.unlink(found->place)) {
                    removed.push_back(name);
                }
            } catch (const SegmentError&) {
                // It stays, as does one that is in use.
            }
        }
    }
    return removed;
}

}  // namespace slidegate
